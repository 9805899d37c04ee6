"""The U-Net of improved-diffusion in PyTorch, timed on request: the peer of benches/unet.rs.

usage: peer.py CONFIG.json WEIGHTS.safetensors THREADS
Reads a line from standard input, does what it says and prints the milliseconds it took:
    infer   one evaluation
    step    forward, mean squared error, backward, AdamW
    output  writes nothing but the largest difference from the tensor `y` in the weights' file, relative to its largest value
"""
import json, math, struct, sys, time
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


def main():
    config, tensors = json.load(open(sys.argv[1])), read(sys.argv[2])
    torch.set_num_threads(int(sys.argv[3]))
    x, t, y = (tensors.pop(k) for k in "xty")
    net = UNet(config)
    net.load_state_dict(tensors)
    with torch.no_grad():
        difference = ((net(x, t) - y).abs().max() / y.abs().max()).item()
    optimiser = torch.optim.AdamW(net.parameters(), 1e-4)

    def infer():
        with torch.no_grad():
            net(x, t)

    def step():
        loss = (net(x, t) - x[:, :1]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "output":
            print(difference, flush=True)
            continue
        start = time.perf_counter()
        {"infer": infer, "step": step}[line.strip()]()
        print((time.perf_counter() - start) * 1e3, flush=True)


main()
