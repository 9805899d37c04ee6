"""Makes tests/cases/diffusers: small models of diffusers, saved by it, and every state of its own pipelines on them.

    python crates/wmgm/scripts/diffusers_models.py      # needs torch, numpy, diffusers

Parameters and noise are formulas, so that they need not be stored: formula.py of score-sde's scripts. Kept are the configurations as diffusers writes them, the states after every step, the pictures, and one model whole as a
.bin file with attention named as until early 2023.
"""
import json, pathlib, shutil, sys, tempfile
import diffusers, numpy as np, torch
from diffusers import (DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, ScoreSdeVePipeline, ScoreSdeVeScheduler,
                       UNet2DModel)
from safetensors.numpy import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "score-sde" / "scripts"))
from formula import numbers, parameter

HERE = pathlib.Path(__file__).resolve().parent.parent / "tests" / "cases" / "diffusers"


def noise(name, shape):
    """Of variance 1."""
    u = numbers(name, int(np.prod(shape))) * np.sqrt(3.0)
    return torch.from_numpy(u.astype("f4").reshape(shape))


def network(**config):
    net = UNet2DModel(**config).eval()
    state = {name: parameter(name, tuple(p.shape)) for name, p in net.state_dict().items()}
    net.load_state_dict(state)
    return net


PLAIN = dict(sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=None,
             down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
             downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6)
SCORE = dict(sample_size=8, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=None,
             attention_head_dim=None, center_input_sample=False, time_embedding_type="fourier", flip_sin_to_cos=False,
             freq_shift=0, mid_block_scale_factor=2**0.5, norm_eps=1e-6,
             down_block_types=("SkipDownBlock2D", "AttnSkipDownBlock2D"),
             up_block_types=("AttnSkipUpBlock2D", "SkipUpBlock2D"))

CASES = {
    # As google/ddpm-cifar10-32, and with the other options of google/ddpm-*.
    "ddpm": (DDPMPipeline, PLAIN, DDPMScheduler(num_train_timesteps=60, variance_type="fixed_large"), 60),
    "ddpm-few": (DDPMPipeline, dict(PLAIN, out_channels=6, act_fn="silu"),
                 DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range",
                               prediction_type="v_prediction", clip_sample_range=1.5, timestep_spacing="linspace"), 9),
    "ddim": (DDIMPipeline, PLAIN, DDIMScheduler(clip_sample=False), 50),
    # Steps that do not join, to another end than a clean picture, with clipping.
    "ddim-clip": (DDIMPipeline, PLAIN, DDIMScheduler(clip_sample_range=0.5, timestep_spacing="linspace",
                                                     set_alpha_to_one=False), 9),
    # Noise in the last step, which is not step 0.
    "ddpm-end": (DDPMPipeline, PLAIN, DDPMScheduler(variance_type="fixed_large", timestep_spacing="trailing"), 9),
    "ddpm-end-learned": (DDPMPipeline, dict(PLAIN, out_channels=6),
                         DDPMScheduler(variance_type="learned_range", timestep_spacing="trailing"), 9),
    # As google/ncsnpp-*.
    "ncsnpp": (ScoreSdeVePipeline, SCORE, ScoreSdeVeScheduler(num_train_timesteps=40, sigma_max=348.0), 40),
}


def run(name, kind, config, scheduler, steps):
    """Runs a pipeline on noise by formula: its states and pictures."""
    draws, states = [], []

    def drawn(shape, **_):
        draws.append(0)
        which = f"{name}.start" if len(draws) == 1 else f"{name}.noise.{len(draws) - 2}"
        return noise(which, tuple(shape))

    import diffusers.pipelines.ddim.pipeline_ddim as a, diffusers.pipelines.ddpm.pipeline_ddpm as b
    import diffusers.pipelines.deprecated.score_sde_ve.pipeline_score_sde_ve as c
    import diffusers.schedulers.scheduling_ddpm as d, diffusers.schedulers.scheduling_ddim as e
    import diffusers.schedulers.scheduling_sde_ve as f
    for module in (a, b, c, d, e, f):
        module.randn_tensor = drawn
    pipeline = kind(unet=network(**config), scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    # The pipeline makes a scheduler of its own kind out of the one it was given.
    scheduler = pipeline.scheduler
    method = "step_pred" if kind is ScoreSdeVePipeline else "step"
    step = getattr(scheduler, method)

    def recorded(*args, **more):
        out = step(*args, **more)
        states.append(out.prev_sample.clone())
        return out

    setattr(scheduler, method, recorded)
    more = dict(eta=0.0) if kind is DDIMPipeline else {}
    pictures = pipeline(batch_size=1, num_inference_steps=steps, output_type="np", **more).images
    return pipeline, torch.cat(states).numpy(), np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def main():
    torch.set_num_threads(1)
    shutil.rmtree(HERE, ignore_errors=True)
    tensors = {}
    for name, (kind, config, scheduler, steps) in CASES.items():
        pipeline, states, pictures = run(name, kind, config, scheduler, steps)
        tensors[f"{name}.states"], tensors[f"{name}.pictures"] = states, pictures.astype("f4")
        with tempfile.TemporaryDirectory() as folder:
            pipeline.save_pretrained(folder)
            for file in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json"):
                to = HERE / name / file
                to.parent.mkdir(parents=True, exist_ok=True)
                value = json.loads((pathlib.Path(folder) / file).read_text())
                value.pop("_name_or_path", None)
                to.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
        print(name, states.shape, float(np.abs(states[-1]).max()))
    save_file(tensors, HERE / "states.safetensors")

    # All files in one folder, as google/ddpm-* are; weights in a pickle, by the old names.
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    net = network(**dict(PLAIN, block_out_channels=(8,), down_block_types=("AttnDownBlock2D",),
                         up_block_types=("AttnUpBlock2D",)))
    state = {}
    for name, tensor in net.state_dict().items():
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        state[name] = tensor
    flat = HERE / "flat"
    flat.mkdir(parents=True)
    torch.save(state, flat / "diffusion_pytorch_model.bin")
    config = {k: v for k, v in dict(net.config).items() if not k.startswith("_")}
    config.update(_class_name="UNet2DModel", _diffusers_version="0.1.0")
    (flat / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    scheduler = dict(DDPMScheduler(num_train_timesteps=20).config)
    scheduler.pop("_use_default_values", None)  # a set, in any order
    scheduler.update(_class_name="DDPMScheduler", _diffusers_version="0.1.0")
    (flat / "scheduler_config.json").write_text(json.dumps(scheduler, indent=1, sort_keys=True) + "\n")
    index = dict(_class_name="DDPMPipeline", _diffusers_version="0.1.0", scheduler=["diffusers", "DDPMScheduler"],
                 unet=["diffusers", "UNet2DModel"])
    (flat / "model_index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    x = noise("flat.x", (1, 3, 8, 8))
    with torch.no_grad():
        y = net(x, torch.tensor([13])).sample
    save_file({"y": y.numpy()}, flat / "io.safetensors")


if __name__ == "__main__":
    main()
