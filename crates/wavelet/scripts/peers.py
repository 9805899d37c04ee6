#!/usr/bin/env python3
"""Times PyWavelets and pytorch_wavelets on (64, 3, 128, 128) f32: lines `peer wavelet mode forward_ms inverse_ms`.

Called by `cargo bench -p wavelet`. Each figure is the least of several runs; a peer that cannot be imported is named.
"""

import sys
import time

import numpy as np

CASES = [("haar", "periodization"), ("db4", "symmetric")]
RUNS = 9


def least(f):
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times[1:])


def main():
    x = np.random.default_rng(0).standard_normal((64, 3, 128, 128)).astype(np.float32)
    try:
        import pywt

        for name, mode in CASES:
            bands = pywt.dwt2(x, name, mode)
            assert bands[0].dtype == np.float32
            forward = least(lambda: pywt.dwt2(x, name, mode))
            print("PyWavelets", name, mode, forward, least(lambda: pywt.idwt2(bands, name, mode)))
    except ImportError as e:
        print("PyWavelets:", e, file=sys.stderr)
    try:
        import torch
        from pytorch_wavelets import DWTForward, DWTInverse

        t = torch.from_numpy(x)
        with torch.no_grad():
            for name, mode in CASES:
                fwd, inv = DWTForward(J=1, wave=name, mode=mode), DWTInverse(wave=name, mode=mode)
                bands = fwd(t)
                print("pytorch_wavelets", name, mode, least(lambda: fwd(t)), least(lambda: inv(bands)))
    except ImportError as e:
        print("pytorch_wavelets:", e, file=sys.stderr)


if __name__ == "__main__":
    main()
