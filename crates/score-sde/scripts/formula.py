"""Parameters and noise by formula, for the scripts that make cases of networks: nothing need be stored. Tests repeat it in
tests/common/formula.rs."""
import numpy as np


def numbers(name, count):
    """Uniform in [-1, 1), a function of name and index alone: FNV-1a of the name, then splitmix64."""
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = (h ^ b) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


def parameter(name, shape):
    """A parameter of any network, of its own scale."""
    import torch

    n = int(np.prod(shape))
    u = numbers(name, n)
    if len(shape) > 1:
        u = u * np.sqrt(3.0 * shape[0] / n)
    elif name.endswith(".W") or name == "time_proj.weight":
        u = u * 16.0
    elif name.endswith("weight"):
        u = 1.0 + 0.2 * u
    else:
        u = 0.2 * u
    return torch.from_numpy(u.astype("f4").reshape(shape))
