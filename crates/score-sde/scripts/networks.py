"""Makes tests/cases/networks.json and networks.safetensors, small networks of score_sde_pytorch and of diffusers run by
those programs themselves, and architectures.json, the parameters of published networks.

    python networks.py CHECKOUT        # of GitHub yang-song/score_sde_pytorch; needs torch, numpy, diffusers

Parameters, pictures and weights of the gradients are formulas, so that none need to be stored: formula.py. Kept are
the output, the gradient at the picture and one number per parameter's gradient.
"""
import importlib, json, os, struct, sys, types
import numpy as np, torch as th

from formula import numbers, parameter

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "cases")
SQRT2 = 1.4142135623730951


class Section(dict):
    __getattr__ = dict.__getitem__


def score_sde(checkout):
    """Its networks, without its CUDA extension."""
    sys.path.insert(0, checkout)
    source = open(os.path.join(checkout, "op", "upfirdn2d.py")).read()
    op = types.ModuleType("op")
    exec("import torch\nfrom torch.nn import functional as F\n" + source[source.index("def upfirdn2d_native"):], op.__dict__)
    op.upfirdn2d = lambda x, k, up=1, down=1, pad=(0, 0): op.upfirdn2d_native(
        x, k, up, up, down, down, pad[0], pad[1], pad[0], pad[1])
    sys.modules["op"] = op
    models = types.ModuleType("models")
    models.__path__ = [os.path.join(checkout, "models")]
    sys.modules["models"] = models
    # Its transposed convolution indexes a tensor backwards and has strides for all four axes, which torch does not
    # take: mended here.
    name = "models.up_or_down_sampling"
    sampling = sys.modules[name] = types.ModuleType(name)
    source = open(os.path.join(checkout, "models", "up_or_down_sampling.py")).read()
    source = source.replace("w[..., ::-1, ::-1]", "torch.flip(w, [3, 4])").replace("[1, 1, factor, factor]", "(factor, factor)")
    exec(source, sampling.__dict__)
    models.up_or_down_sampling = sampling
    ddpm, ncsnpp = (importlib.import_module("models." + m) for m in ("ddpm", "ncsnpp"))
    # Upsampling without a filter passes the mode where the scale belongs, and does not run: mended here.
    plain = th.nn.functional
    mended = types.SimpleNamespace(**{k: getattr(plain, k) for k in ("pad", "avg_pool2d", "softmax")})
    mended.interpolate = lambda x, size, mode: plain.interpolate(x, size, mode=mode)
    ncsnpp.layerspp.F = mended
    return {"ddpm": ddpm.DDPM, "ncsnpp": ncsnpp.NCSNpp}


def score_sde_cases():
    base = dict(name="ncsnpp", nf=32, ch_mult=[1, 2], num_res_blocks=1, attn_resolutions=[4], resamp_with_conv=True,
                conditional=True, scale_by_sigma=False, nonlinearity="swish", dropout=0.1, sigma_min=0.01, sigma_max=50.0,
                num_scales=1000, fir=False, fir_kernel=[1, 3, 3, 1], skip_rescale=True, resblock_type="biggan",
                progressive="none", progressive_input="none", progressive_combine="sum", embedding_type="positional",
                init_scale=0.0, fourier_scale=16, ema_rate=0.999, normalization="GroupNorm", attention_type="ddpm",
                conv_size=3)
    ve = dict(fir=True, embedding_type="fourier", progressive="output_skip", progressive_input="input_skip",
              scale_by_sigma=True)
    data = dict(image_size=8, num_channels=3, centered=True)
    time, sigma, index = [3.0, 742.5], [0.37, 25.0], [3, 742]
    cases = [
        ("ddpm", dict(name="ddpm", attn_resolutions=[8]), {}, time),
        ("ddpm-plain", dict(name="ddpm", resamp_with_conv=False, attn_resolutions=[4, 8], nonlinearity="elu",
                            scale_by_sigma=True), dict(centered=False), index),
        ("ddpmpp", dict(resblock_type="ddpm"), {}, time),
        ("ddpmpp-biggan", dict(num_res_blocks=2, attn_resolutions=[8]), {}, time),
        ("ncsnpp-ve", dict(ve, ch_mult=[1, 1, 2], attn_resolutions=[8]), dict(image_size=16), sigma),
        ("ncsnpp-wide", dict(ve, ch_mult=[1, 4]), {}, sigma),  # as diffusers has it: attention in 32 groups
        ("ncsnpp-cat", dict(ve, progressive_combine="cat", skip_rescale=False), dict(centered=False), sigma),
        ("ncsnpp-residual", dict(ve, progressive="residual", progressive_input="residual", ch_mult=[1, 1, 2]), {}, sigma),
        ("ncsnpp-residual-plain", dict(progressive="residual", progressive_input="residual", skip_rescale=False,
                                       scale_by_sigma=True), {}, time),
        ("ncsnpp-ddpm-fir", dict(ve, resblock_type="ddpm", progressive="residual", progressive_input="input_skip",
                                 ch_mult=[1, 2, 2], attn_resolutions=[]), {}, sigma),
        ("ncsnpp-ddpm-fir-plain", dict(ve, resblock_type="ddpm", resamp_with_conv=False, progressive="output_skip",
                                       progressive_input="residual", scale_by_sigma=False), {}, sigma),
        ("ncsnpp-long-filter", dict(ve, fir_kernel=[1, 4, 9, 9, 5, 2], resblock_type="ddpm", progressive="residual",
                                    progressive_input="residual"), {}, sigma),
        ("ncsnpp-odd-filter", dict(ve, fir_kernel=[1, 2, 4], resblock_type="ddpm", progressive="residual",
                                   progressive_input="residual", progressive_combine="cat"), {}, sigma),
        ("ncsnpp-odd-filter-biggan", dict(ve, fir_kernel=[1, 2, 1]), {}, sigma),
        ("ncsnpp-grey", dict(ve, nf=16, nonlinearity="lrelu", progressive="output_skip", progressive_input="none"),
         dict(num_channels=1), sigma),
        ("ncsnpp-unconditional", dict(conditional=False, nonlinearity="relu", fir=True, progressive="output_skip"), {},
         time),
        ("ncsnpp-fourier-unconditional", dict(ve, conditional=False), {}, sigma),
    ]
    for name, model, pictures, t in cases:
        config = dict(model=dict(base, **model), data=dict(data, **pictures))
        size = config["data"]["image_size"]
        yield dict(name=name, family="score_sde", config=config, size=[size, size], t=t)


def diffusers_cases():
    base = dict(block_out_channels=[32, 64], down_block_types=["DownBlock2D", "AttnDownBlock2D"],
                up_block_types=["AttnUpBlock2D", "UpBlock2D"], layers_per_block=1)
    google = dict(act_fn="silu", attention_head_dim=None, center_input_sample=False, downsample_padding=0,
                  flip_sin_to_cos=False, freq_shift=1, mid_block_scale_factor=1, norm_eps=1e-06, norm_num_groups=32,
                  time_embedding_type="positional")
    skip = dict(google, block_out_channels=[32, 64, 64], down_block_types=["SkipDownBlock2D", "AttnSkipDownBlock2D",
                "SkipDownBlock2D"], up_block_types=["SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D"],
                downsample_padding=1, flip_sin_to_cos=True, freq_shift=0, mid_block_scale_factor=SQRT2,
                norm_num_groups=None, time_embedding_type="fourier")
    time, sigma = [3, 742], [0.37, 25.0]
    cases = [
        ("ddpm", dict(google, layers_per_block=2), time, None),
        ("defaults", dict(), [3.0, 742.5], None),
        ("resnet-resampling", dict(downsample_type="resnet", upsample_type="resnet",
                                   down_block_types=["AttnDownBlock2D", "DownBlock2D"],
                                   up_block_types=["AttnUpBlock2D", "AttnUpBlock2D"], attention_head_dim=16), time, None),
        ("resnet-blocks", dict(down_block_types=["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
                               up_block_types=["ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"],
                               resnet_time_scale_shift="scale_shift", act_fn="gelu"), time, None),
        ("scale-shift", dict(resnet_time_scale_shift="scale_shift", attn_norm_num_groups=8, norm_num_groups=16,
                             act_fn="mish", time_embedding_dim=96), time, None),
        ("ncsnpp", skip, sigma, None),
        ("ncsnpp-deep", dict(skip, block_out_channels=[32, 32, 64], layers_per_block=2, norm_num_groups=8), sigma, None),
        ("mixed", dict(down_block_types=["SkipDownBlock2D", "AttnDownBlock2D"],
                       up_block_types=["AttnUpBlock2D", "SkipUpBlock2D"]), time, None),
        ("mixed-up", dict(down_block_types=["DownBlock2D", "SkipDownBlock2D"],
                          up_block_types=["SkipUpBlock2D", "SkipUpBlock2D"]), time, None),
        ("classes", dict(num_class_embeds=5, act_fn="relu"), time, [4, 0]),
        ("classes-timestep", dict(class_embed_type="timestep"), time, [17.0, 250.5]),
        ("classes-identity", dict(class_embed_type="identity", add_attention=False), time, "embedding"),
        ("learned", dict(time_embedding_type="learned", num_train_timesteps=20, in_channels=1, out_channels=2,
                         center_input_sample=True, mid_block_type=None), [3, 19], None),
        ("odd-heads", dict(block_out_channels=[32, 48], norm_num_groups=16, attention_head_dim=20,
                           mid_block_scale_factor=2.5), time, None),
        ("one-level", dict(block_out_channels=[32], down_block_types=["AttnDownBlock2D"],
                           up_block_types=["AttnUpBlock2D"]), time, None),
    ]
    for name, config, t, labels in cases:
        size = [8, 12] if name == "defaults" else [8, 8]
        yield dict(name=name, family="diffusers", config=dict(base, **config), size=size, t=t, labels=labels)


def run(net, case, channels):
    named = sorted(net.named_parameters())
    for name, p in named:
        p.data = parameter(name, p.shape)
    shape = (2, channels, *case["size"])
    make = lambda name, shape: th.from_numpy(numbers(name, int(np.prod(shape))).astype("f4").reshape(shape))
    x = (make("x", shape) * 1.5).requires_grad_()
    args = [x, th.tensor(case["t"])]
    labels = case.get("labels")
    if labels == "embedding":
        args.append(make("labels", (2, 128)))
    elif labels is not None:
        args.append(th.tensor(labels))
    y = net.eval()(*args)
    y = getattr(y, "sample", y)
    (y * make("w", y.shape)).sum().backward()
    trained = [(n, p) for n, p in named if p.requires_grad and p.grad is not None]
    dots = [float((p.grad.double().flatten() * th.from_numpy(numbers("dot", p.numel()))).sum()) for _, p in trained]
    return {"y": y, "grad_x": x.grad, "dots": th.tensor(dots)}


def save(path, tensors):
    head, data = {}, b""
    for key, t in tensors.items():
        raw = t.detach().numpy().astype("<f4").tobytes()
        head[key] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(head).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)


def digest(net, order):
    """FNV-1a of names and shapes."""
    h = 0xCBF29CE484222325
    for name, p in order(net.named_parameters()):
        for b in f"{name} {list(p.shape)}\n".encode():
            h = (h ^ b) * 0x100000001B3 % 2**64
    return f"{h:016x}"


def architectures(nets, UNet2DModel):
    """Networks as published: their number of parameters, and names and shapes as a digest."""
    out = []

    class ConfigDict(Section):
        __setattr__ = dict.__setitem__

    collections = types.ModuleType("ml_collections")
    collections.ConfigDict = ConfigDict
    sys.modules["ml_collections"] = collections
    for path in ["vp.ddpm.cifar10", "vp.ddpm.celebahq", "vp.cifar10_ddpmpp_continuous", "subvp.cifar10_ncsnpp_continuous",
                 "ve.cifar10_ncsnpp_continuous", "ve.celebahq_256_ncsnpp_continuous", "ve.ffhq_ncsnpp_continuous"]:
        config = importlib.import_module("configs." + path).get_config()
        net = nets[config.model.name](config)
        out.append(dict(name=path, family="score_sde", config=dict(model=config.model, data=config.data),
                        parameters=sum(p.numel() for p in net.parameters()), digest=digest(net, list)))
    ddpm = dict(_class_name="UNet2DModel", _diffusers_version="0.0.4", act_fn="silu", attention_head_dim=None,
                center_input_sample=False, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, in_channels=3,
                layers_per_block=2, mid_block_scale_factor=1, norm_eps=1e-06, norm_num_groups=32, out_channels=3,
                time_embedding_type="positional")
    large = dict(ddpm, block_out_channels=[128, 128, 256, 256, 512, 512], sample_size=256,
                 down_block_types=["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
                 up_block_types=["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4)
    small = dict(ddpm, block_out_channels=[128, 256, 256, 256], sample_size=32,
                 down_block_types=["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
                 up_block_types=["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"])
    ncsnpp = dict(ddpm, block_out_channels=[128, 128, 256, 256, 256, 256, 256], sample_size=256, norm_num_groups=None,
                  downsample_padding=1, flip_sin_to_cos=True, freq_shift=0, mid_block_scale_factor=1.41421356237,
                  down_block_types=["SkipDownBlock2D"] * 4 + ["AttnSkipDownBlock2D"] + ["SkipDownBlock2D"] * 2,
                  up_block_types=["SkipUpBlock2D"] * 2 + ["AttnSkipUpBlock2D"] + ["SkipUpBlock2D"] * 4,
                  time_embedding_type="fourier")
    for name, config in [("google/ddpm-celebahq-256, google/ddpm-cat-256", large), ("google/ddpm-cifar10-32", small),
                         ("google/ncsnpp-celebahq-256", ncsnpp), ("the defaults", {})]:
        with th.device("meta"):
            net = UNet2DModel(**{k: v for k, v in config.items() if k[0] != "_"})
        out.append(dict(name=name, family="diffusers", config=config, parameters=sum(p.numel() for p in net.parameters()),
                        digest=digest(net, sorted)))
    return out


def write_json(name, rows):
    with open(os.path.join(HERE, name), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")


def main():
    nets = score_sde(sys.argv[1])
    from diffusers import UNet2DModel
    write_json("architectures.json", architectures(nets, UNet2DModel))
    cases, tensors = [], {}
    for case in [*score_sde_cases(), *diffusers_cases()]:
        config = case["config"]
        if case["family"] == "score_sde":
            sections = {k: Section(v) for k, v in config.items()}
            net = nets[config["model"]["name"]](Section(sections, training=Section(continuous=True)))
            channels = config["data"]["num_channels"]
        else:
            net = UNet2DModel(**config)
            channels = config.get("in_channels", 3)
        out = run(net, case, channels)
        print(case["family"], case["name"], {k: (tuple(v.shape), float(v.detach().abs().max())) for k, v in out.items()})
        for key, t in out.items():
            tensors[f"{case['family']}.{case['name']}.{key}"] = t
        cases.append(case)
    write_json("networks.json", cases)
    save(os.path.join(HERE, "networks.safetensors"), tensors)


if __name__ == "__main__":
    main()
