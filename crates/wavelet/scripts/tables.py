#!/usr/bin/env python3
"""Writes data/filters.txt, the filters of every discrete wavelet of PyWavelets, to the last bit.

    pip install PyWavelets
    python3 scripts/tables.py [data/filters.txt]

Only what cannot be derived is stored. In PyWavelets the high-pass filters follow from the low-pass ones,
dec_hi[k] = -(-1)^k rec_lo[k] and rec_hi[k] = (-1)^k dec_lo[k]; an orthogonal wavelet has dec_lo = rec_lo reversed; and an
rbio wavelet has the filters of its bior twin, exchanged and reversed. Each relation is checked here for equality.
"""

import importlib.metadata
import pathlib
import sys

import pywt

HEADER = f"""\
# Low-pass filters of the discrete wavelets of PyWavelets {importlib.metadata.version("PyWavelets")}, written by scripts/tables.py.
# Copyright (c) the PyWavelets Developers, MIT licence: see LICENSE-PyWavelets beside this file.
# One line per wavelet: its name, "orthogonal" and rec_lo, or "biorthogonal", dec_lo, ";" and rec_lo.
"""


def numbers(values):
    return " ".join(repr(float(v)) for v in values)


def main():
    here = pathlib.Path(__file__).resolve().parent.parent
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "data" / "filters.txt"
    lines = []
    for name in pywt.wavelist(kind="discrete"):
        w = pywt.Wavelet(name)
        assert w.dec_len == w.rec_len and w.dec_len % 2 == 0, name
        assert w.dec_hi == [-v if k % 2 == 0 else v for k, v in enumerate(w.rec_lo)], name
        assert w.rec_hi == [v if k % 2 == 0 else -v for k, v in enumerate(w.dec_lo)], name
        if w.orthogonal:
            assert w.dec_lo == w.rec_lo[::-1], name
        if name.startswith("rbio"):
            twin = pywt.Wavelet(name.replace("rbio", "bior"))
            assert w.dec_lo == twin.rec_lo[::-1] and w.rec_lo == twin.dec_lo[::-1], name
            assert w.orthogonal == twin.orthogonal, name
        elif w.orthogonal:
            lines.append(f"{name} orthogonal {numbers(w.rec_lo)}\n")
        else:
            lines.append(f"{name} biorthogonal {numbers(w.dec_lo)} ; {numbers(w.rec_lo)}\n")
    out.write_text(HEADER + "".join(lines))
    print(f"{out}: {len(lines)} lines")


if __name__ == "__main__":
    main()
