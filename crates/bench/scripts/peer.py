"""PyTorch, timed on request: the peer of this crate's benchmarks.

usage: peer.py CASE.json TENSORS.safetensors THREADS eager|channels_last|compile [DEVICE [f32|tf32|bf16]]
The case is {"network": "unet" | "generator" | "pipeline", "config": {...}} or {"operator": NAME, ...}.
Reads a line from standard input, does what it says and prints the milliseconds it took (on a GPU, of one of ten times):
    infer     one evaluation of a network
    step      forward, mean squared error, backward, AdamW
    forward   an operator
    backward  the gradients of all its inputs; `input` and `weight` of a convolution just one
    output    does nothing but print the largest difference from the tensor `y`, relative to its largest value
    memory    prints the most memory this process has held, on a GPU what its tensors have, in MiB
    forget    sets that back to what the process holds now
"""
import gc, json, math, struct, sys, time
import numpy as np, torch
from torch import nn
from torch.nn import functional as F


def read(path):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(size))
        data = f.read()
    out = {}
    for name, t in head.items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            out[name] = torch.from_numpy(np.frombuffer(data[a:b], "<f4").reshape(t["shape"]).copy())
    return out


class Block(nn.Module):
    def __init__(self, ci, co, emb, modulate):
        super().__init__()
        self.modulate = modulate
        self.in_layers = nn.Sequential(nn.GroupNorm(32, ci), nn.SiLU(), nn.Conv2d(ci, co, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, co * (2 if modulate else 1)))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, co), nn.SiLU(), nn.Identity(), nn.Conv2d(co, co, 3, padding=1))
        self.skip_connection = nn.Identity() if ci == co else nn.Conv2d(ci, co, 1)

    def forward(self, x, emb):
        h = self.in_layers(x)
        e = self.emb_layers(emb)[:, :, None, None]
        norm, rest = self.out_layers[0], self.out_layers[1:]
        if self.modulate:
            scale, shift = e.chunk(2, 1)
            h = rest(norm(h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + e)
        return self.skip_connection(x) + h


class Attention(nn.Module):
    def __init__(self, ch, heads):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(32, ch)
        self.qkv, self.proj_out = nn.Conv1d(ch, 3 * ch, 1), nn.Conv1d(ch, ch, 1)

    def forward(self, x, _):
        n, c, h, w = x.shape
        flat = x.reshape(n, c, h * w)
        q, k, v = self.qkv(self.norm(flat)).reshape(n * self.heads, 3 * c // self.heads, h * w).chunk(3, 1)
        p = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / math.sqrt(c // self.heads), -1)
        out = torch.einsum("bts,bcs->bct", p, v).reshape(n, c, h * w)
        return (flat + self.proj_out(out)).reshape(n, c, h, w)


class Conv(nn.Conv2d):
    def forward(self, x, _):
        return super().forward(x)


class Resample(nn.Module):
    def __init__(self, ch, conv, up):
        super().__init__()
        self.up = up
        name, stride = ("conv", 1) if up else ("op", 2)
        self.layer = name if conv else None
        if conv:
            setattr(self, name, nn.Conv2d(ch, ch, 3, stride, 1))

    def forward(self, x, _):
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        if self.layer:
            return getattr(self, self.layer)(x)
        return x if self.up else F.avg_pool2d(x, 2)


class Stage(nn.ModuleList):
    def forward(self, x, emb):
        for layer in self:
            x = layer(x, emb)
        return x


class UNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        base = self.base = c["model_channels"]
        emb = 4 * base
        block = lambda ci, co: Block(ci, co, emb, c.get("use_scale_shift_norm", True))
        attend = lambda ds, ch: [Attention(ch, c["num_heads"])] if ds in c["attention_resolutions"] else []
        self.time_embed = nn.Sequential(nn.Linear(base, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.input_blocks = nn.ModuleList([Stage([Conv(c["in_channels"], base, 3, padding=1)])])
        widths, ch, ds = [base], base, 1
        for level, mult in enumerate(c["channel_mult"]):
            for _ in range(c["num_res_blocks"]):
                self.input_blocks.append(Stage([block(ch, mult * base)] + attend(ds, mult * base)))
                ch = mult * base
                widths.append(ch)
            if level + 1 < len(c["channel_mult"]):
                self.input_blocks.append(Stage([Resample(ch, c["conv_resample"], False)]))
                widths.append(ch)
                ds *= 2
        self.middle_block = Stage([block(ch, ch), Attention(ch, c["num_heads"]), block(ch, ch)])
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(c["channel_mult"]))):
            for i in range(c["num_res_blocks"] + 1):
                layers = [block(ch + widths.pop(), mult * base)] + attend(ds, mult * base)
                ch = mult * base
                if level and i == c["num_res_blocks"]:
                    layers.append(Resample(ch, c["conv_resample"], True))
                    ds //= 2
                self.output_blocks.append(Stage(layers))
        self.out = nn.Sequential(nn.GroupNorm(32, ch), nn.SiLU(), nn.Conv2d(ch, c["out_channels"], 3, padding=1))

    def forward(self, x, t):
        freqs = torch.exp(-math.log(10000) * torch.arange(self.base // 2, dtype=torch.float32) / (self.base // 2))
        angles = t[:, None] * freqs[None]
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], 1))
        kept = []
        for stage in self.input_blocks:
            x = stage(x, emb)
            kept.append(x)
        x = self.middle_block(x, emb)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, kept.pop()], 1), emb)
        return self.out(x)


class Residual(nn.Module):
    """act(conv norm act conv norm (x) + 1 x 1 (x)), the width changing half way in the first convolution."""

    def __init__(self, ci, co, slope):
        super().__init__()
        middle = (ci + co) // 2
        self.block = nn.Sequential(
            nn.Conv2d(ci, middle, 3, padding=1), nn.BatchNorm2d(middle), nn.LeakyReLU(slope),
            nn.Conv2d(middle, co, 3, padding=1), nn.BatchNorm2d(co))
        self.shortcut = nn.Conv2d(ci, co, 1, bias=False)
        self.act = nn.LeakyReLU(slope)

    def forward(self, x):
        return self.act(self.block(x) + self.shortcut(x))


class Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        pair = lambda ci, co: nn.Sequential(nn.Conv2d(ci, co, 1), nn.BatchNorm2d(co))
        self.W_g, self.W_x, self.psi = pair(width, width // 2), pair(width, width // 2), pair(width // 2, 1)

    def forward(self, g, x):
        return x * torch.sigmoid(self.psi(F.relu(self.W_g(g) + self.W_x(x))))


class Up(nn.Module):
    def __init__(self, ci, co, slope):
        super().__init__()
        self.conv_block = Residual(ci, co, slope)

    def forward(self, x):
        return self.conv_block(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))


class Generator(nn.Module):
    """The official WMGM generator's shape: five sizes, attention gates on the skips, tanh."""

    def __init__(self, c):
        super().__init__()
        n, slope = c["n_channels"], c["leaky_relu_slope"]
        for size in range(5):
            ci = c["in_channels"] if size == 0 else n << size - 1
            self.add_module(f"Conv{size + 1}", Residual(ci, n << size, slope))
        for size in range(4):
            ci = n << size + (1 if size == 3 else 2)
            self.add_module(f"Up{size + 2}", Up(ci, n << size, slope))
            self.add_module(f"Att{size + 2}", Gate(n << size))
        self.last_conv1 = Residual(2 * n, n // 2, slope)
        self.last_conv2 = nn.Conv2d(n // 2, c["out_channels"], 1)

    def forward(self, x):
        part = lambda name, size: getattr(self, f"{name}{size}")
        kept = []
        for size in range(1, 6):
            x = part("Conv", size)(x if size == 1 else F.max_pool2d(x, 2))
            kept.append(x)
        for size in range(5, 1, -1):
            up = part("Up", size)(x)
            x = torch.cat([part("Att", size)(up, kept[size - 2]), up], 1)
        return torch.tanh(self.last_conv2(self.last_conv1(x)))


class DetailBlock(nn.Module):
    def __init__(self, ci, co):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, ci), nn.Conv2d(ci, co, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, co), nn.Conv2d(co, co, 3, padding=1)
        self.skip = nn.Identity() if ci == co else nn.Conv2d(ci, co, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Details(nn.Module):
    """The generator of the shipped model: low band, noise and level to three bands of details."""

    def __init__(self, c):
        super().__init__()
        widths, blocks = c["widths"], c["blocks"]
        self.levels = c["levels"]
        self.first = nn.Conv2d(c["channels"] + c["noise_channels"] + c["levels"], widths[0], 3, padding=1)
        ch, self.down, self.up = widths[0], nn.ModuleList(), nn.ModuleDict()
        for width in widths:
            self.down.append(nn.Sequential(*[DetailBlock(ch if b == 0 else width, width) for b in range(blocks)]))
            ch = width
        self.middle = DetailBlock(ch, ch)
        for i, width in reversed(list(enumerate(widths[:-1]))):
            stage = [DetailBlock(ch + width if b == 0 else width, width) for b in range(blocks)]
            self.up[str(i)] = nn.Sequential(*stage)
            ch = width
        self.norm, self.last = nn.GroupNorm(8, ch), nn.Conv2d(ch, 3 * c["channels"], 3, padding=1)

    def forward(self, low, noise, level):
        planes = torch.zeros(len(low), self.levels, *low.shape[2:])
        planes[:, level - 1] = 1
        x, kept = self.first(torch.cat([low, noise, planes], 1)), []
        for i, stage in enumerate(self.down):
            if i:
                kept.append(x)
                x = F.avg_pool2d(x, 2)
            x = stage(x)
        x = self.middle(x)
        for stage in self.up.values():
            x = stage(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), kept.pop()], 1))
        return self.last(F.silu(self.norm(x)))


def merged(low, high):
    """The inverse Haar transform of bands (N, C, H, W) and (N, 3 C, H, W) in the order LH, HL, HH."""
    lh, hl, hh = high.chunk(3, 1)
    rows = [torch.stack([low + a * lh + b * hl + a * b * hh for b in (1, -1)], -1) / 2 for a in (1, -1)]
    n, c, h, w = low.shape
    return torch.stack(rows, 3).reshape(n, c, 2 * h, 2 * w)


class Pipeline(nn.Module):
    """Both networks and the sampler of a bundle; `forward` makes the pictures of given noise."""

    def __init__(self, c):
        super().__init__()
        self.c, self.score, self.generator = c, UNet(c["score"]), Details(c["generator"])

    def forward(self, x, *noises):
        c, edm, steps = self.c, self.c["edm"], self.c["sample"]["steps"]
        assert c["sample"]["sampler"] == "dpmpp-2m" and c["wavelet"] == "haar"
        hi, lo = edm["sigma_max"] ** (1 / edm["rho"]), edm["sigma_min"] ** (1 / edm["rho"])
        sigmas = [(hi + i / (steps - 1) * (lo - hi)) ** edm["rho"] for i in range(steps)] + [0.0]
        x, last, data = x * sigmas[0], None, edm["sigma_data"]
        for s, after in zip(sigmas, sigmas[1:]):
            total = math.sqrt(s * s + data * data)
            t = torch.full((len(x),), 400 * math.log(s) / 4)
            clean = (data / total) ** 2 * x + s * data / total * self.score(x / total, t)
            guess = clean
            if last and after > 0:
                half = 0.5 * (math.log(s) - math.log(after)) / (math.log(last[1]) - math.log(s))
                guess = clean * (1 + half) - last[0] * half
            x, last = x * (after / s) + guess * (1 - after / s), (clean, s)
        for _ in range(c["fold"]):
            quarter = x.shape[1] // 4
            x = merged(x[:, :quarter], x[:, quarter:])
        for level, noise in zip(range(c["levels"], 0, -1), noises):
            high, own = self.generator(x, noise, level), c["bands"][level - 1]
            high = torch.cat([b * s["std"] + s["mean"] for b, s in zip(high.chunk(3, 1), own["high"])], 1)
            x = merged(x * own["low"]["std"] + own["low"]["mean"], high)
            if level > 1:
                finer = c["bands"][level - 2]["low"]
                x = (x - finer["mean"]) / finer["std"]
        return x


def network(case, tensors, mode, precision):
    """What a network can be asked."""
    device = torch.get_default_device().type
    inside = lambda: torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
    inputs = [tensors.pop(k) for k in ("x", "t", "noise0", "noise1") if k in tensors]
    y = tensors.pop("y")
    net = {"unet": UNet, "generator": Generator, "pipeline": Pipeline}[case["network"]](case["config"])
    missing, extra = net.load_state_dict(tensors, strict=False)
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    if missing or extra:
        raise SystemExit(f"tensors do not fit: missing {missing[:3]}, extra {extra[:3]}")
    tensors.clear()
    net.train(False)
    if mode == "channels_last":
        net = net.to(memory_format=torch.channels_last)
        inputs[0] = inputs[0].to(memory_format=torch.channels_last)
    run = torch.compile(net) if mode == "compile" else net
    with torch.no_grad(), inside():
        difference = ((run(*inputs).float() - y).abs().max() / y.abs().max()).item()
    optimiser = torch.optim.AdamW(net.parameters(), 1e-4, fused=True if device == "cuda" else None)

    def infer():
        net.train(False)
        with torch.no_grad(), inside():
            run(*inputs)

    def step():
        net.train(True)
        with inside():
            y = run(*inputs)
        loss = (y.float() - inputs[0][:, :1]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return difference, {"infer": infer, "step": step}


def attention(x, heads):
    n, c, length = x.shape
    q, k, v = x.reshape(n * heads, c // heads, length).chunk(3, 1)
    p = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / math.sqrt(q.shape[1]), -1)
    return torch.einsum("bts,bcs->bct", p, v).reshape(n, c // 3, length)


def operator(case, tensors):
    """What an operator can be asked: gradients are those of sum(y)."""
    name, x, y = case["operator"], tensors["x"], tensors["y"]
    w, b = tensors.get("w"), tensors.get("b")
    conv = lambda x, w, b: F.conv2d(x, w, b, case["stride"], case["padding"], 1, case["groups"])
    f = {
        "conv2d": conv,
        "group_norm_silu": lambda x, w, b: F.silu(F.group_norm(x, 32, w, b, 1e-5)),
        "batch_norm": lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        "silu": lambda x, w, b: F.silu(x),
        "leaky_relu": lambda x, w, b: F.leaky_relu(x, 0.1),
        "softmax": lambda x, w, b: torch.softmax(x, -1),
        "attention": lambda x, w, b: attention(x, case["heads"]),
        "max_pool2x": lambda x, w, b: F.max_pool2d(x, 2),
        "avg_pool2x": lambda x, w, b: F.avg_pool2d(x, 2),
        "upsample_nearest2x": lambda x, w, b: F.interpolate(x, scale_factor=2, mode="nearest"),
        "upsample_bilinear2x": lambda x, w, b: F.interpolate(x, scale_factor=2, mode="bilinear"),
    }[name]
    with torch.no_grad():
        difference = ((f(x, w, b) - y).abs().max() / y.abs().max()).item()

    def forward():
        with torch.no_grad():
            f(x, w, b)

    def gradient(*wanted):
        own = {k: t.detach().clone().requires_grad_(k in wanted) for k, t in tensors.items() if k in "xwb"}
        out = f(own["x"], own.get("w"), own.get("b"))
        ones = torch.ones_like(out)
        return lambda: out.backward(ones, retain_graph=True, inputs=[own[k] for k in wanted])

    every = [k for k in "xwb" if k in tensors]
    asked = {"forward": forward, "backward": gradient(*every), "input": gradient("x")}
    if w is not None:
        asked["weight"] = gradient("w")
    return difference, asked


def optimiser(tensors):
    """AdamW and a moving average over all parameters."""
    params = [t.clone().requires_grad_() for t in tensors.values()]
    shadow = [p.detach().clone() for p in params]
    for p in params:
        p.grad = torch.full_like(p, 1e-3)
    adam = torch.optim.AdamW(params, 1e-4)

    def average():
        with torch.no_grad():
            torch._foreach_lerp_(shadow, params, 1e-3)

    return 0.0, {"adamw": adam.step, "ema": average}


def main():
    case, tensors = json.load(open(sys.argv[1])), read(sys.argv[2])
    torch.set_num_threads(int(sys.argv[3]))
    device, precision = (sys.argv[5:] + ["cpu", "f32"][len(sys.argv) - 5:])[:2]
    gpu = device.startswith("cuda")
    torch.set_default_device(device)
    tensors = {k: t.to(device) for k, t in tensors.items()}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = gpu
    if "network" in case:
        difference, asked = network(case, tensors, sys.argv[4], precision)
    elif case["operator"] == "optimiser":
        difference, asked = optimiser(tensors)
    else:
        difference, asked = operator(case, tensors)
    print("ready", flush=True)
    for line in sys.stdin:
        what = line.strip()
        if what == "output":
            print(difference, flush=True)
        elif what == "forget":
            gc.collect()
            with open("/proc/self/clear_refs", "w") as f:
                f.write("5")
            print(0, flush=True)
        elif what == "memory" and gpu:
            print(torch.cuda.max_memory_allocated() / 2**20, flush=True)
        elif what == "memory":
            peak = next(l for l in open("/proc/self/status") if l.startswith("VmHWM:"))
            print(int(peak.split()[1]) / 1024, flush=True)
        else:
            what, times = what.split()
            times = int(times)
            wait = torch.cuda.synchronize if gpu else lambda: None
            wait()
            start = time.perf_counter()
            for _ in range(times):
                asked[what]()
            wait()
            print((time.perf_counter() - start) * 1e3 / times, flush=True)


main()
