"""Makes the files beside it: what torch.save writes of every kind of value, and the same tensors as safetensors.

    python crates/checkpoints/tests/cases/make.py      # needs torch, numpy, safetensors
"""

import collections
import pathlib
import pickle
import zipfile

import numpy
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
torch.manual_seed(0)


def mixed():
    """Every type and every way to lie in a storage."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7
    longs = torch.arange(10) - 5
    tensors = {
        "f64": torch.randn(2, 3, dtype=torch.float64),
        "f16": torch.randn(5).half(),
        "bf16": torch.randn(5).bfloat16(),
        "i64": longs,
        "i32": longs.int(),
        "i16": longs.short(),
        "u8": torch.tensor([0, 1, 255], dtype=torch.uint8),
        "bool": torch.tensor([[True, False], [False, True]]),
        "base": base,
        "transposed": base.t(),
        "slice": base[1:3, 2:6:2],
        "column": base[:, 5],
        "expanded": base[0:1, :2].expand(3, 2),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "channels_last": torch.randn(1, 2, 3, 2).to(memory_format=torch.channels_last),
        "u32": torch.tensor([7, 2**32 - 1], dtype=torch.uint32),
    }
    value = {
        "tensors": tensors,
        "list": [torch.ones(2), (torch.zeros(1), "text"), None],
        "ordered": collections.OrderedDict([("b", torch.ones(1)), ("a", 1)]),
        "integers": [0, -1, 255, 65535, 65536, -(2**31), 2**31, 2**62, -(2**63), 2**64],
        "float": 0.1,
        "truth": [True, False],
        "numpy": [numpy.float64(0.5), numpy.float32(0.25), numpy.int64(-3), numpy.bool_(True)],
        "size": base.size(),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "unicode": "ä✓",
        3: "an integer as a key",
    }
    return value


def named(value, name=""):
    """The tensors of a value by the keys that lead to them."""
    if isinstance(value, torch.Tensor):
        return {name: value.detach().clone().contiguous()}
    parts = {}
    items = value.items() if isinstance(value, dict) else []
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        items = enumerate(value)
    for key, part in items:
        parts |= named(part, f"{name}.{key}" if name else str(key))
    return parts


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 2)
        self.register_buffer("steps", torch.tensor(4))


def main():
    value = mixed()
    save_file(named(value), HERE / "mixed.safetensors", metadata={"format": "pt"})
    torch.save(value, HERE / "mixed.pth")
    torch.save(value, HERE / "mixed-4.pth", pickle_protocol=4)
    # The old format has no unsigned types.
    old = {**value, "tensors": {k: v for k, v in value["tensors"].items() if k != "u32"}}
    torch.save(old, HERE / "legacy.pt", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(HERE / "mixed.pth") as stored:
        with zipfile.ZipFile(HERE / "deflated.pth", "w", zipfile.ZIP_DEFLATED) as deflated:
            for name in stored.namelist():
                deflated.writestr(name, stored.read(name))

    torch.serialization.set_crc32_options(False)
    torch.save({"a": torch.ones(2)}, HERE / "unchecked.pth")
    torch.serialization.set_crc32_options(True)

    model = Small()
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    torch.save(averaged.state_dict(), HERE / "averaged.pth")
    torch.save(
        {"model_state_dict": model.state_dict(), "ema_state_dict": averaged.state_dict(), "epoch": 3},
        HERE / "pair.pth",
    )
    arrays()
    # Not tensors alone: a class, which loading would have to import.
    torch.save({"model": model.state_dict(), "args": Opaque(3)}, HERE / "opaque.pth")


def arrays():
    """A pickle of arrays, as JAX's users write parameters."""
    x = numpy.arange(24, dtype="f4").reshape(2, 3, 4) / 7
    value = {
        "layer": {"kernel": x, "turned": numpy.asfortranarray(x), "half": x[0].astype("f2")},
        "steps": numpy.array([3, -4], "i8"),
        "scalar": numpy.float32(0.5),
        "alone": numpy.array(0.25),
    }
    for protocol in (2, 3, 4):
        with open(HERE / f"arrays-{protocol}.pkl", "wb") as file:
            pickle.dump(value, file, protocol)


class Opaque:
    def __init__(self, number):
        self.number = number


if __name__ == "__main__":
    main()
