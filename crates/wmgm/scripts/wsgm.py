"""Makes wsgm.json and wsgm.safetensors: small cascades after Guth et al. 2022 (arXiv 2208.05003), sampled with PyTorch.

    python wsgm.py [GOLDEN]     # GOLDEN: a folder with case.json, io.safetensors and weights.pth of such a cascade

With GOLDEN it first shows that what is written here gives that folder's numbers. Parameters, noises and statistics are
formulas, so that none need to be stored: formula.py of score-sde's scripts, which tests/wsgm.rs repeats. Kept are the pictures.
"""
import json, math, os, pathlib, struct, sys
import numpy as np, torch as th
import torch.nn.functional as F

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "score-sde" / "scripts"))
from formula import numbers

HERE = ROOT / "wmgm" / "tests" / "cases"
th.set_grad_enabled(False)


def made(name, shape, factor):
    n = int(np.prod(shape))
    return th.from_numpy((numbers(name, n) * factor).astype("f4").reshape(shape))


def parameter(name, shape):
    if len(shape) > 1:
        return made(name, shape, math.sqrt(3.0 * shape[0] / np.prod(shape)))
    value = made(name, shape, 0.2)
    return 1.0 + value if name.endswith("weight") else value


def embedding(t, width):
    half = width // 2
    angles = t[:, None].float() * th.exp(-math.log(10000) * th.arange(half) / half)
    return th.cat([th.cos(angles), th.sin(angles)], 1)


def unet(get, c, ci, co, x, t):
    """improved-diffusion's U-Net; `get` gives the parameter of a name and shape."""

    def linear(name, i, o, x):
        return F.linear(x, get(name + ".weight", (o, i)), get(name + ".bias", (o,)))

    def conv(name, i, o, x, size=3, **k):
        return F.conv2d(x, get(name + ".weight", (o, i, size, size)), get(name + ".bias", (o,)), padding=size // 2, **k)

    def norm(name, x):
        n = x.shape[1]
        return F.group_norm(x, 32, get(name + ".weight", (n,)), get(name + ".bias", (n,)), 1e-5)

    def res(name, x, o):
        i = x.shape[1]
        h = conv(name + ".in_layers.2", i, o, F.silu(norm(name + ".in_layers.0", x)))
        e = linear(name + ".emb_layers.1", emb.shape[1], 2 * o if c["use_scale_shift_norm"] else o, F.silu(emb))[..., None, None]
        if c["use_scale_shift_norm"]:
            scale, shift = e.chunk(2, 1)
            h = norm(name + ".out_layers.0", h) * (1 + scale) + shift
        else:
            h = norm(name + ".out_layers.0", h + e)
        h = conv(name + ".out_layers.3", o, o, F.silu(h))
        return h + (x if i == o else conv(name + ".skip_connection", i, o, x, 1))

    def attention(name, x):
        n, w = x.shape[:2]
        flat = norm(name + ".norm", x).flatten(2)
        qkv = F.conv1d(flat, get(name + ".qkv.weight", (3 * w, w, 1)), get(name + ".qkv.bias", (3 * w,)))
        q, k, v = qkv.reshape(n * c["num_heads"], 3 * w // c["num_heads"], -1).chunk(3, 1)
        weight = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(-1)
        h = (v @ weight.transpose(1, 2)).reshape(flat.shape)
        h = F.conv1d(h, get(name + ".proj_out.weight", (w, w, 1)), get(name + ".proj_out.bias", (w,)))
        return x + h.reshape(x.shape)

    base, mults, blocks = c["base_channels"], [1] + c["channel_mults"], c["num_res_attn_blocks"]
    emb = linear("time_embed.0", base, 4 * base, embedding(t, base))
    emb = linear("time_embed.2", 4 * base, 4 * base, F.silu(emb))
    h = conv("input_blocks.0.0", ci, base, x)
    kept, at = [h], 1
    for level, mult in enumerate(mults):
        for _ in range(blocks):
            h = res(f"input_blocks.{at}.0", h, mult * base)
            if c["is_attn"][level]:
                h = attention(f"input_blocks.{at}.1", h)
            kept.append(h)
            at += 1
        if level + 1 < len(mults):
            h = conv(f"input_blocks.{at}.0.op", h.shape[1], h.shape[1], h, stride=2)
            kept.append(h)
            at += 1
    h = res("middle_block.0", h, h.shape[1])
    h = attention("middle_block.1", h)
    h = res("middle_block.2", h, h.shape[1])
    at = 0
    for level in reversed(range(len(mults))):
        for i in range(blocks + 1):
            h = res(f"output_blocks.{at}.0", th.cat([h, kept.pop()], 1), mults[level] * base)
            if c["is_attn"][level]:
                h = attention(f"output_blocks.{at}.1", h)
            if level > 0 and i == blocks:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
                h = conv(f"output_blocks.{at}.{2 if c['is_attn'][level] else 1}.conv", h.shape[1], h.shape[1], h)
            at += 1
    return conv("out.2", base, co, F.silu(norm("out.0", h)))


def alphas(c):
    """The running product of 1 - beta, in f64."""
    T = c["T"]
    if c["linear"]:
        return th.cumprod(1 - th.linspace(0.1 / T, 20 / T, T, dtype=th.float64), 0)
    f = th.cos((th.arange(T + 1, dtype=th.float64) / T + 0.008) / 1.008 * math.pi / 2) ** 2
    return th.cumprod(1 - (1 - f[1:] / f[:-1]).clamp(0, 0.999), 0)


def ddim(get, c, early, x, condition, steps, eta, low, high, noise):
    co = x.shape[1]
    bars, T = alphas(c), c["T"]
    times = th.linspace(T - 1, 0, steps or T, dtype=int).tolist()
    for i, t in enumerate(times):
        shown = math.floor(t / (0.02 * T)) * (0.02 * T) if early and t <= 0.1 * T else t
        both = x if condition is None else th.cat([x, condition], 1)
        eps = unet(get, c["unet"], both.shape[1], co, both, th.full((len(x),), shown * 1000 / T))
        a, s = bars[t].sqrt().float(), (1 - bars[t]).sqrt().float()
        clean = ((x - s * eps) / a).clamp(low, high)
        if i + 1 == len(times):
            return clean
        eps = (x - a * clean) / s
        before = bars[times[i + 1]]
        std = eta * ((1 - before) / (1 - bars[t]) * (1 - bars[t] / before)).sqrt()
        # The program's table is of f32; where little is left of this difference, pictures show it.
        direction = (1 - before.float().double() - std**2).clamp(min=0).sqrt().float()
        x = before.sqrt().float() * clean + direction * eps + std.float() * noise(x.shape)


def haar(x):
    p, q, r, t = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    details = (p + q - r - t, p - q + r - t, p - q - r + t)
    return (p + q + r + t) / 4, th.cat(details, 1) / 4


def inverse_haar(coarse, details):
    a, b, c = details.chunk(3, 1)
    n, ch, h, w = coarse.shape
    rows = [th.stack([coarse + a + b + c, coarse + a - b - c], -1), th.stack([coarse - a + b - c, coarse - a - b + c], -1)]
    return th.stack(rows, -3).reshape(n, ch, 2 * h, 2 * w)


def sample(get, config, init, noise):
    """The coarse picture of the coarsest level, and the picture."""
    x, first = init, None
    early = config.get("early_timestep_sharing", False)
    for level, how in zip(reversed(range(len(config["levels"]))), config["sample"]):
        c = config["levels"][level]
        inner = lambda name: lambda parameter, shape: get(f"wds.{level}.{name}.unet.{parameter}", shape)
        if "coarse_diffuser" in c:
            x = ddim(inner("dnc"), c["coarse_diffuser"], early, x, None, how.get("coarse_steps"), how.get("coarse_eta", 1.0),
                     -1.0, 1.0, noise)
        first = x if first is None else first
        mean, var, low, high = (get(f"wds.{level}.transform.details_{k}", (1, 3 * x.shape[1], 1, 1))
                                for k in ("mean", "var", "min", "max"))
        std = var.sqrt()
        start = noise((x.shape[0], 3 * x.shape[1], *x.shape[2:]))
        details = ddim(inner("dnd"), c["details_diffuser"], early, start, x, how.get("details_steps"),
                       how.get("details_eta", 1.0), (low - mean) / std, (high - mean) / std, noise)
        x = inverse_haar(x, details * std + mean).clamp(-1, 1)
    return first, x


def check(folder):
    from safetensors.torch import load_file
    io = load_file(os.path.join(folder, "io.safetensors"))
    state = th.load(os.path.join(folder, "weights.pth"), weights_only=True)["ema_state_dict"]
    config = json.load(open(os.path.join(folder, "case.json")))["config"]
    used = set()

    def get(name, shape):
        used.add(name)
        value = state["module." + name]
        assert tuple(value.shape) == tuple(shape), (name, value.shape, shape)
        return value

    order = iter(sorted(k for k in io if k[0] == "z" and k[1:].isdigit()))
    _, out = sample(get, config, io["init"], lambda shape: io[next(order)])
    assert next(order, None) is None
    left = {k[7:] for k in state if ".unet." in k} - used
    coarse, details = haar(io["haar_in"])
    worst = {k: (a - io[k]).abs().max().item() for k, a in [("haar_coarse", coarse), ("haar_details", details), ("out", out)]}
    print(folder, worst)
    assert not left and max(worst.values()) < 1e-4, left


def unets():
    plain = dict(base_channels=32, num_res_attn_blocks=1, channel_mults=[], is_attn=[True], num_heads=4, dropout=0.1,
                 use_scale_shift_norm=False)
    two = dict(plain, channel_mults=[1], is_attn=[False, True], num_heads=2)
    return plain, two


def cases():
    plain, two = unets()
    linear = lambda unet, T=1000: dict(T=T, linear=True, unet=unet)
    cosine = lambda unet, T: dict(T=T, linear=False, unet=unet)
    yield "two-levels", dict(num_channels=3, image_size=[16, 16], levels=[
        dict(details_diffuser=linear(two)),
        dict(coarse_diffuser=linear(plain), details_diffuser=linear(plain)),
    ], sample=[dict(coarse_steps=4, details_steps=3), dict(details_steps=2, details_eta=0.0)]), 2, [4, 4]
    yield "enlarging", dict(num_channels=1, early_timestep_sharing=True, levels=[
        dict(details_diffuser=cosine(dict(two, use_scale_shift_norm=True, num_res_attn_blocks=2), 30)),
    ], sample=[dict(details_eta=0.5)]), 1, [4, 6]


def formula(case):
    """Bounds that some details reach, or, in enlarging, none do."""

    def get(name, shape):
        last = name.rsplit("_", 1)[-1]
        if ".transform." not in name:
            return parameter(name, shape)
        if last == "mean":
            return made(name, shape, 0.01)
        if last == "var":
            return (0.02 + made(name, shape, 0.01)) * (4e-6 if case == "enlarging" else 1.0)
        bound = math.inf if case == "enlarging" else 0.3
        return th.full(shape, bound if last == "max" else -bound)

    return get


def main():
    if len(sys.argv) > 1:
        check(sys.argv[1])
    described, tensors = [], {}
    for name, config, n, size in cases():
        shape, calls = (n, config["num_channels"], *size), iter(range(10**6))
        # Uniform with variance 1.
        noise = lambda shape: made(f"{name} z{next(calls)}", shape, math.sqrt(3.0))
        start = made(f"{name} init", shape, math.sqrt(3.0) if "coarse_diffuser" in config["levels"][-1] else 0.5)
        first, out = sample(formula(name), config, start, noise)
        described.append(dict(name=name, config=config, init=list(shape), noises=next(calls)))
        tensors[name + " coarse"], tensors[name + " out"] = first, out
        print(name, out.shape, out.std().item(), (out.abs() == 1).float().mean().item())
    with open(os.path.join(HERE, "wsgm.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(d) for d in described) + "\n]\n")
    header, data = {}, b""
    for name, value in tensors.items():
        raw = value.contiguous().numpy().astype("<f4").tobytes()
        header[name] = dict(dtype="F32", shape=list(value.shape), data_offsets=[len(data), len(data) + len(raw)])
        data += raw
    text = json.dumps(header).encode()
    with open(os.path.join(HERE, "wsgm.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


main()
