#!/usr/bin/env python3
"""Writes tests/cases/pywavelets.safetensors: PyWavelets' answers, in f64, that this crate's must equal.

    pip install PyWavelets numpy safetensors
    python3 scripts/golden.py [tests/cases/pywavelets.safetensors]

Input: `signal`, of which a case of length n takes the first n values, or the first h * w as rows.
- `dwt/NAME`, every discrete wavelet: for every mode (MODES, in that order) and every n of LENGTHS, cA then cD.
- `idwt/NAME`: the same modes; for every n of LENGTHS, idwt of bands of that n's length, cA the first m values of
  `signal` and cD the next m.
- `long/NAME`: cA then cD of LONG values, symmetric mode: the inside of a signal longer than any filter.
- `dwt2/NAME/HxW`, a selection: for every mode LL, LH, HL, HH (cA, cH, cV, cD).
- `wavedec2/NAME/HxW`: for every mode two levels, coarsest first: cA, then (cH, cV, cD) of level 2 and of level 1.
"""

import importlib.metadata
import pathlib
import sys
import warnings

import numpy as np
import pywt
from safetensors.numpy import save_file

MODES = ["zero", "constant", "symmetric", "periodic", "smooth", "periodization", "reflect", "antisymmetric", "antireflect"]
LENGTHS = [7, 20]
LONG = 151
PICTURES = {"dwt2": ["haar", "db4", "sym5", "coif2", "bior2.4", "rbio3.3"], "wavedec2": ["haar", "db3", "bior4.4"]}
SIZES = [(13, 16), (14, 9)]


def flat(parts):
    return np.concatenate([np.ravel(p) for p in parts])


def main():
    warnings.simplefilter("ignore")  # Levels made of boundary effects are wanted.
    here = pathlib.Path(__file__).resolve().parent.parent
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "tests" / "cases" / "pywavelets.safetensors"
    assert sorted(MODES) == sorted(pywt.Modes.modes)
    signal = np.random.default_rng(0).standard_normal(256)
    tensors = {"signal": signal}
    for name in pywt.wavelist(kind="discrete"):
        w = pywt.Wavelet(name)
        forward, back = [], []
        for mode in MODES:
            for n in LENGTHS:
                forward += pywt.dwt(signal[:n], w, mode)
                m = pywt.dwt_coeff_len(n, w.dec_len, mode)
                back.append(pywt.idwt(signal[:m], signal[m : 2 * m], w, mode))
        tensors[f"dwt/{name}"] = flat(forward)
        tensors[f"idwt/{name}"] = flat(back)
        tensors[f"long/{name}"] = flat(pywt.dwt(signal[:LONG], w, "symmetric"))
    for h, w in SIZES:
        x = signal[: h * w].reshape(h, w)
        for name in PICTURES["dwt2"]:
            bands = [pywt.dwt2(x, name, mode) for mode in MODES]
            tensors[f"dwt2/{name}/{h}x{w}"] = flat(b for a, d in bands for b in (a, *d))
        for name in PICTURES["wavedec2"]:
            bands = [pywt.wavedec2(x, name, mode, level=2) for mode in MODES]
            tensors[f"wavedec2/{name}/{h}x{w}"] = flat(b for a, d2, d1 in bands for b in (a, *d2, *d1))
    version = importlib.metadata.version("PyWavelets")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out, metadata={"source": f"PyWavelets {version}, scripts/golden.py", "modes": " ".join(MODES)})
    print(f"{out}: {len(tensors)} tensors, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
