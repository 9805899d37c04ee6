"""Shows that what `cargo xtask export-weights --to diffusers|safetensors` writes is loaded by diffusers and by plain PyTorch,
and computes the same there.

    cargo build -p xtask && python crates/wmgm/scripts/check_exports.py target/debug/xtask [--golden FOLDER] [--score-sde CHECKOUT]

needs torch, numpy, diffusers, safetensors. Random networks go from diffusers to a bundle and back. With --golden, a folder of
reference cases, improved-diffusion's checkpoints become networks of diffusers, whose outputs must be those of the reference.
With --score-sde, a checkout of GitHub yang-song/score_sde_pytorch, its networks do, or are refused for what diffusers lacks.
"""
import argparse, json, pathlib, subprocess, sys, tempfile
import torch
from diffusers import DDPMPipeline, DDPMScheduler, ScoreSdeVePipeline, ScoreSdeVeScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from diffusers_models import PLAIN, SCORE, network, noise

BOUND = 1e-4


def apart(a, b):
    return float((a - b).abs().max() / b.abs().max().clamp(min=1.0))


def export(xtask, *args):
    done = subprocess.run([xtask, "export-weights", *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def score_sde(xtask, at, checkout, worst):
    """The networks of the cases of score-sde's tests, by score_sde and by diffusers."""
    import networks  # beside formula.py

    nets = networks.score_sde(checkout)
    for case in networks.score_sde_cases():
        sde = "vesde" if case["config"]["model"]["embedding_type"] == "fourier" else "vpsde"
        # diffusers' pipeline of the one has pictures in [0, 1], that of the other in [-1, 1].
        config = dict(case["config"], data=dict(case["config"]["data"], centered=sde == "vpsde"))
        sections = {k: networks.Section(v) for k, v in config.items()}
        net = nets[config["model"]["name"]](networks.Section(sections, training=networks.Section(continuous=True))).eval()
        for name, p in net.named_parameters():
            p.data = networks.parameter(name, p.shape)
        flags, file = at / "flags.json", at / f"{case['name']}.safetensors"
        flags.write_text(json.dumps(dict(config, training=dict(sde=sde, continuous=True))))
        save_file({name: t.float().contiguous() for name, t in net.state_dict().items()}, file)
        what = f"score_sde {case['name']} --to diffusers"
        try:
            export(xtask, file, "--config", flags, "--out", at / case["name"], "--to", "diffusers")
        except AssertionError as reason:
            print(f"{what} is refused: {reason}")
            continue
        kind = ScoreSdeVePipeline if sde == "vesde" else DDPMPipeline
        other = kind.from_pretrained(at / case["name"]).unet.eval()
        x = noise(case["name"], (2, config["data"]["num_channels"], *case["size"]))
        t = torch.tensor(case["t"], dtype=torch.float32)
        worst[what] = apart(other(x, t).sample, net(x, t))
    assert all(f"score_sde {name} --to diffusers" in worst for name in ("ddpm", "ncsnpp-wide"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("xtask")
    parser.add_argument("--golden", type=pathlib.Path)
    parser.add_argument("--score-sde")
    options = parser.parse_args()
    xtask, golden = options.xtask, options.golden
    torch.set_num_threads(1)
    worst = {}
    with tempfile.TemporaryDirectory() as temporary, torch.no_grad():
        at = pathlib.Path(temporary)
        x, t = noise("x", (2, 3, 8, 8)), torch.tensor([3.0, 41.0])
        for name, kind, config, scheduler in [
            ("ddpm", DDPMPipeline, PLAIN, DDPMScheduler(num_train_timesteps=60)),
            ("ncsnpp", ScoreSdeVePipeline, SCORE, ScoreSdeVeScheduler(num_train_timesteps=40)),
        ]:
            net = network(**config)
            kind(unet=net, scheduler=scheduler).save_pretrained(at / name)
            y = net(x, t).sample
            export(xtask, at / name, "--out", at / f"{name}-bundle")
            export(xtask, at / f"{name}-bundle", "--out", at / f"{name}-back", "--to", "diffusers")
            export(xtask, at / f"{name}-bundle", "--out", at / f"{name}.safetensors", "--to", "safetensors")
            again = kind.from_pretrained(at / f"{name}-back")
            worst[f"{name} --to diffusers"] = apart(again.unet(x, t).sample, y)
            assert again.scheduler.config.num_train_timesteps == scheduler.config.num_train_timesteps
            plain = UNet2DModel(**config).eval()
            plain.load_state_dict(load_file(at / f"{name}.safetensors"), strict=True)
            worst[f"{name} --to safetensors"] = apart(plain(x, t).sample, y)
        if options.score_sde:
            score_sde(xtask, at, options.score_sde, worst)
        for case in sorted(golden.glob("improved-diffusion-unet-*")) if golden else []:
            c = json.loads((case / "case.json").read_text())["config"]
            flags = at / "flags.json"
            flags.write_text(json.dumps(dict(image_size=16, num_heads=c["num_heads"], diffusion_steps=1000,
                                             noise_schedule="linear")))
            io = load_file(case / "io.safetensors")
            plain = at / f"{case.name}.safetensors"
            export(xtask, case / "model.pt", "--config", flags, "--out", plain, "--to", "safetensors")
            want, got = torch.load(case / "model.pt", weights_only=True), load_file(plain)
            assert want.keys() == got.keys() and all(torch.equal(want[k], got[k]) for k in want)
            worst[f"{case.name} --to safetensors"] = 0.0
            try:
                export(xtask, case / "model.pt", "--config", flags, "--out", at / case.name, "--to", "diffusers")
            except AssertionError as reason:
                print(f"{case.name} --to diffusers is refused: {reason}")
                continue
            net = DDPMPipeline.from_pretrained(at / case.name).unet.eval()
            labels = dict(class_labels=io["label"]) if "label" in io else {}
            worst[f"{case.name} --to diffusers"] = apart(net(io["x"], io["t"].float(), **labels).sample, io["y"])
    for what, by in worst.items():
        print(f"{what:<48} {by:.1e}")
    assert all(by <= BOUND for by in worst.values())


if __name__ == "__main__":
    main()
