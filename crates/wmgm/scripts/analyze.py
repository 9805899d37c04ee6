"""Makes numbers.json and pictures.png in tests/cases/analyze: what `wmgm analyze` should say about twelve pictures, computed with numpy, Pillow
and PyWavelets from the definitions alone.

    python analyze.py        (needs numpy, scipy, Pillow and PyWavelets)
"""
import json, os
import numpy as np, pywt
from PIL import Image
from scipy.special import erfc

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/cases/analyze")
COUNT, SIZE = 12, 64


def pictures():
    """A field of power 1/w^2 in mixed channels, and rectangles, whose edges make details sparse."""
    rng = np.random.default_rng(5)
    k = np.minimum(np.arange(SIZE), SIZE - np.arange(SIZE))
    power = np.maximum(k[:, None] ** 2 + k[None] ** 2, 1.0) ** -1.0
    mix = np.array([[1, 0.2, 0.05], [0.9, -0.1, 0.1], [0.7, -0.3, -0.15]])
    for _ in range(COUNT):
        noise = np.fft.fft2(rng.standard_normal((3, SIZE, SIZE)))
        x = np.fft.ifft2(noise * np.sqrt(power / power.mean())).real
        x = 110 + 25 * np.einsum("ab,byx->yxa", mix, x)
        for _ in range(3):
            top, left = rng.integers(0, SIZE - 8, 2)
            height, width = rng.integers(4, 30, 2)
            x[top : top + height, left : left + width] += rng.normal(0, 40, 3)
        yield np.clip(np.round(x), 0, 255).astype(np.uint8)


def bands(x, wavelet, levels):
    """Names, levels and arrays (N, 3, side, side) of the pyramid of x, periodized."""
    out = [("pixels", x)]
    low = x
    for level in range(1, levels + 1):
        low, high = pywt.dwt2(low, wavelet, mode="periodization")
        out += [(f"{n}{level}", b) for n, b in zip(["LL", "LH", "HL", "HH"], [low, *high])]
    return out


def uniform(index, count):
    """The crate's addressed noise, nn_ops::noise::fill_uniform(0, index, 900, 0): Philox4x32-10, 24 bits of each word."""
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    mask = np.uint64(0xFFFFFFFF)
    same = lambda v: np.full_like(blocks, v)
    c, key = [blocks, same(0), same(index), same(900 << 16)], [0, 0]
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        k = [np.uint64(v) for v in key]
        c = [(b >> np.uint64(32)) ^ c[1] ^ k[0], b & mask, (a >> np.uint64(32)) ^ c[3] ^ k[1], a & mask]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    words = np.stack(c, 1).ravel()[:count]
    return (words >> np.uint64(8)).astype(float) / 2**24


def marginal(z):
    """KL of the histogram of z from N(0, 1), bins of 1/16; the parts near zero and with half of the energy."""
    edges = np.arange(-32 * 16, 32 * 16 + 1) / 16
    p = np.histogram(np.clip(z, -31.99, 31.99), edges)[0] / z.size
    tail = lambda a: 0.5 * erfc(a / np.sqrt(2))
    near, far = np.minimum(abs(edges[1:]), abs(edges[:-1])), np.maximum(abs(edges[1:]), abs(edges[:-1]))
    q = np.maximum(tail(near) - tail(far), 2.3e-308)
    kl = np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0]))
    energy = np.sort(z**2)[::-1].cumsum()
    return kl, np.mean(abs(z) < 0.1), np.searchsorted(energy, energy[-1] / 2) / z.size


def measure(name, x, dithered):
    n, _, side, _ = x.shape
    mean = x.mean((0, 2, 3))
    centred = x - mean[None, :, None, None]
    cov = np.einsum("nayx,nbyx->ab", centred, centred) / (n * side * side)
    values, vectors = np.linalg.eigh(cov)
    values, vectors = values[::-1], vectors[:, ::-1]
    turned = np.einsum("ak,nayx->nkyx", vectors, centred)
    power = (np.abs(np.fft.fft2(turned)) ** 2).mean(0) / side**2 / values.mean()
    flat = (x - x.mean()).ravel()
    std = np.sqrt(values.mean())
    shape = marginal(((dithered - mean[None, :, None, None]) / std).ravel())
    k = np.minimum(np.arange(side), side - np.arange(side))
    radius = np.round(np.hypot(k[:, None], k[None])).astype(int)
    radial = [[p[radius == r].mean() for r in range(radius.max() + 1)] for p in power]
    beta_min, beta_max = 0.1, 20.0
    # (1 - e^-2h) = e^-2h variance with h the half integral of beta.
    half = 0.5 * np.log1p(values.mean())
    drowns = (-beta_min + np.sqrt(beta_min**2 + 4 * (beta_max - beta_min) * half)) / (beta_max - beta_min)
    return {
        "name": name, "side": side, "mean": mean.tolist(), "std": std,
        "kurtosis": (flat**4).mean() / (flat**2).mean() ** 2,
        "components": values.tolist(), "condition": power.max() / power.min(),
        "condition_components": [p.max() / p.min() for p in power],
        "condition_radial": max(map(max, radial)) / min(map(min, radial)),
        "kl_gaussian": 0.5 * (power - 1 - np.log(power)).mean(),
        "kl_colour": 0.5 * (values / values.mean() - 1 - np.log(values / values.mean())).mean(),
        "kl_marginal": shape[0], "near_zero": shape[1], "half_energy": shape[2],
        "drowns_at": drowns, "radial": radial,
    }


def main():
    all_pictures = list(pictures())
    strip = np.concatenate(all_pictures, 1)
    Image.fromarray(strip).save(os.path.join(HERE, "pictures.png"), optimize=True)
    cases = []
    for wavelet, sizes in [("haar", [(64, 3), (32, 2)]), ("db2", [(64, 2), (32, 1)])]:
        for size, levels in sizes:
            x = np.stack([np.asarray(Image.fromarray(p).resize((size, size), Image.LANCZOS)) for p in all_pictures])
            x = x.transpose(0, 3, 1, 2) / 127.5 - 1
            noise = np.stack([uniform(i, x[i].size).reshape(x[i].shape) for i in range(COUNT)])
            noisy = x + (noise - 0.5) / 127.5
            plain, dithered = bands(x, wavelet, levels), bands(noisy, wavelet, levels)
            cases.append({
                "wavelet": wavelet, "size": size, "levels": levels,
                "bands": [measure(n, b, d) for (n, b), (_, d) in zip(plain, dithered)],
            })
    with open(os.path.join(HERE, "numbers.json"), "w") as f:
        json.dump(cases, f, separators=(",", ":"))
        f.write("\n")


main()
