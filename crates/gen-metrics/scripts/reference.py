"""Reference numbers of other programs, for the tests of this crate.

    python scripts/reference.py tests/cases

Needs (PyPI): numpy scipy torch torchvision torchmetrics scikit-learn pillow PyWavelets pytorch-fid prdc lpips
efficientnet_lite_pytorch. Weights, features and pictures are not drawn but computed from their names and places, so that the
tests can compute the same ones: nothing large is committed and nothing is downloaded.
"""

import json
import sys

import numpy as np
import pywt
import torch
import torchvision
from PIL import Image

np.seterr(over="ignore")


def mix(start, count):
    """`count` numbers in [0, 1): splitmix64 of start, start + 1, ..."""
    z = np.uint64(start) + np.arange(count, dtype=np.uint64)
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


def address(name):
    """64-bit FNV-1a."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def weight(name, shape):
    shape = tuple(shape)
    u = mix(address(name), int(np.prod(shape)))
    last = name.rsplit(".", 1)[-1]
    if name.startswith("lin"):
        v = u
    elif last == "running_var":
        v = 0.5 + u
    elif len(shape) == 1 and last == "weight":
        v = 0.8 + 0.4 * u
    elif len(shape) == 1:
        v = 0.2 * (u - 0.5)
    else:
        v = (2 * u - 1) * np.sqrt(6 / np.prod(shape[1:]))
    return torch.from_numpy(v.astype(np.float32).reshape(shape))


def fill(module):
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and not name.startswith(("scaling_layer", "lins.")):
                tensor.copy_(weight(name, tensor.shape))
    return module.eval()


def picture(n, width, height):
    """(height, width, 3) bytes: slopes with noise on them."""
    noise = (mix(1000 * (n + 1), height * width * 3) * 64).astype(np.int64).reshape(height, width, 3)
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((5 * x + 3 * y + 40 * c + 17 * n + noise) % 256).astype(np.uint8)


def features(start, count, dim, scale, shift):
    u = mix(start, 3 * count * dim).reshape(3, count, dim).sum(0)
    return ((u - 1.5) * scale + shift).astype(np.float32)


def metrics():
    from prdc import compute_prdc
    from pytorch_fid.fid_score import calculate_frechet_distance
    from scipy import linalg
    from torchmetrics.image.kid import poly_mmd

    # scipy no longer knows this option of sqrtm.
    sqrtm = linalg.sqrtm
    linalg.sqrtm = lambda a, disp=True: sqrtm(a) if disp else (sqrtm(a), 0.0)
    a, b = features(1, 300, 16, 2.0, 0.0), features(100_000, 260, 16, 2.4, 0.3)
    wide = lambda x: x.astype(np.float64)
    stat = lambda x: (x.mean(0), np.cov(x, rowvar=False))
    out = {"frechet": calculate_frechet_distance(*stat(wide(a)), *stat(wide(b)))}
    # Fewer vectors than dimensions: the trace of the root is the nuclear norm of the centred sets' product.
    few_a, few_b = wide(a)[:10], wide(b)[:7]
    (m1, s1), (m2, s2) = stat(few_a), stat(few_b)
    nuclear = np.linalg.svd((few_a - m1) @ (few_b - m2).T, compute_uv=False).sum() / np.sqrt(9 * 6)
    out["frechet_few"] = ((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * nuclear
    out["mmd2"] = poly_mmd(torch.from_numpy(wide(a)[:260]), torch.from_numpy(wide(b))).item()
    for k in (3, 5):
        found = compute_prdc(wide(b), wide(a), k)
        out[f"manifold_{k}"] = [float(found[x]) for x in ("precision", "recall", "density", "coverage")]
    return out


def rounded(values):
    return [round(v, 4) for v in values.flatten().tolist()]


def resizes():
    """Pictures (3, 23, 31), values from 0 to 255, to other sizes."""
    x = picture(0, 31, 23)
    planes = torch.from_numpy(x).permute(2, 0, 1).float()[None]
    interpolate = torch.nn.functional.interpolate
    out = []
    for h, w in ((40, 50), (12, 9), (23, 64)):
        bilinear = interpolate(planes, size=(h, w), mode="bilinear", align_corners=False)
        torch_cubic = interpolate(planes, size=(h, w), mode="bicubic", align_corners=False, antialias=True)
        channels = [Image.fromarray(x[:, :, c].astype(np.float32)) for c in range(3)]
        pillow = np.stack([np.asarray(c.resize((w, h), Image.BICUBIC)) for c in channels])
        print("torch and Pillow differ by", np.abs(torch_cubic[0].numpy() - pillow).max())
        out.append({"size": [h, w], "bilinear": rounded(bilinear.numpy()), "bicubic": rounded(pillow)})
    return out


def networks():
    import lpips
    import pytorch_fid.inception as fid
    from efficientnet_lite_pytorch import EfficientNet

    interpolate = torch.nn.functional.interpolate
    batch = np.stack([picture(n, 48, 48) for n in range(2)])
    planes = torch.from_numpy(batch).permute(0, 3, 1, 2).float()
    out = {}
    with torch.no_grad():
        fid.load_state_dict_from_url = lambda *_, **__: None
        torchvision.models.Inception3.load_state_dict = lambda self, _: fill(self)
        net = fid.InceptionV3([3]).eval()
        out["inception_pytorch_fid"] = net(planes / 255)[0].flatten(1).tolist()
        resized = [
            np.stack([np.asarray(Image.fromarray(x[:, :, c].astype(np.float32)).resize((299, 299), Image.BICUBIC)).clip(0, 255) for c in range(3)])
            for x in batch
        ]
        clean = (torch.from_numpy(np.stack(resized)) - 128) / 128
        net.resize_input = net.normalize_input = False
        out["inception_clean_fid"] = net(clean)[0].flatten(1).tolist()

        net = fill(EfficientNet.from_name("efficientnet-lite0"))
        x = interpolate(planes / 255, size=(224, 224), mode="bicubic", align_corners=False, antialias=True)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = (x - mean[None, :, None, None]) / std[None, :, None, None]
        out["efficientnet_lite0"] = net.extract_features(x).mean((2, 3)).tolist()

        net = fill(lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False))
        x = planes / 127.5 - 1
        out["lpips"] = net(x[:1], x[1:]).item()
    return out


def bands():
    """Distances of each wavelet band between six pictures and five others."""
    groups, bins = 64, 4096
    sets = [[picture(n, 32, 32) for n in range(6)], [picture(n, 32, 32) for n in range(20, 25)]]

    def pyramid(x):
        x = x.astype(np.float64).transpose(2, 0, 1) / 127.5 - 1
        found = []
        for level in (1, 2):
            x, details = pywt.dwt2(x, "haar", mode="periodization")
            found += [(level, name, d) for name, d in zip(("LH", "HL", "HH"), details)]
        return found + [(2, "LL", x)]

    all_bands = [[pyramid(x) for x in s] for s in sets]
    out = []
    for i, (level, name, _) in enumerate(all_bands[0][0]):
        samples, reference = (np.stack([p[i][2] for p in s]) for s in all_bands)
        edges = np.linspace(-(2.0**level), 2.0**level, bins + 1)
        hist = lambda x: np.histogram(np.clip(x, edges[0], edges[-1]), edges)[0]
        a, b = hist(samples), hist(reference)
        middle = 2 * np.cumsum(b) - b  # in halves of a count
        group = np.minimum(groups - 1, groups * middle // (2 * b.sum()))
        p, q = (np.bincount(group, x)[np.unique(group)] + 0.5 for x in (b, a))
        p, q = p / p.sum(), q / q.sum()
        h = samples.shape[-1]
        f = np.fft.fftfreq(h, 1 / h)
        ring = np.rint(np.hypot(f[:, None], f[None, :])).astype(int)

        def spectrum(x):
            power = (np.abs(np.fft.fft2(x)) ** 2 / h**2).mean((0, 1))
            return np.array([power[ring == r].mean() for r in range(1, h // 2 + 1)])

        decibels = 10 * np.log10(spectrum(samples) / spectrum(reference))
        out.append(
            {
                "level": level,
                "band": name,
                "kl": float((p * np.log(p / q)).sum()),
                "spectrum_db": float(np.sqrt((decibels**2).mean())),
                "std": [float(samples.std()), float(reference.std())],
            }
        )
    return out


def main():
    folder = sys.argv[1]
    for name, make in (("metrics", metrics), ("resizes", resizes), ("networks", networks), ("bands", bands)):
        with open(f"{folder}/{name}.json", "w") as file:
            json.dump(make(), file)
    x = features(1, 40, 6, 2.0, 0.0).astype(np.float64)
    # As pytorch-fid's --save-stats writes them, and as older programs do.
    np.savez_compressed(f"{folder}/stats_compressed.npz", mu=x.mean(0), sigma=np.cov(x, rowvar=False))
    np.savez(f"{folder}/stats_f32.npz", mu=x.mean(0).astype(np.float32), sigma=np.asfortranarray(np.cov(x, rowvar=False)).astype(np.float32))


main()
