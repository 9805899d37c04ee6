"""Makes tests/cases/theory.json: the theory module's numbers from dense matrices, with nothing diagonalised and no recursion per mode.

    python theory.py        (needs numpy and PyWavelets)
"""
import json, os
import numpy as np, pywt

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/cases")


def reverse(cov, gain, low, horizon, steps):
    """KL in nats of y | x ~ N(gain x, cov), x ~ N(0, low), from what Euler-Maruyama makes of it from N(0, 1)."""
    d = len(cov)
    one, delta = np.eye(d), horizon / steps
    v, m = one.copy(), np.zeros_like(gain)
    for k in range(steps):
        decay = np.exp(-(horizon - k * delta))
        inverse = np.linalg.inv(one + (cov - one) * decay**2)
        step = (1 + delta) * one - 2 * delta * inverse
        v = step @ v @ step.T + 2 * delta * one
        m = step @ m + 2 * delta * inverse @ (gain * decay)
    w = np.linalg.inv(v)
    miss = gain - m
    return 0.5 * (np.trace(w @ cov) - d - np.linalg.slogdet(cov)[1] + np.linalg.slogdet(v)[1]
                  + np.trace(w @ miss @ low @ miss.T))


def field(size, exponent):
    k = np.minimum(np.arange(size), size - np.arange(size))
    power = np.maximum(k[:, None] ** 2 + k[None] ** 2, 1.0) ** (-exponent / 2)
    power /= power.mean()
    first = np.fft.ifft2(power).real
    at = np.arange(size)
    # Covariance of the pixels (y, x) and (u, v) by their distance.
    rows = (at[:, None, None, None] - at[None, None, :, None]) % size
    columns = (at[None, :, None, None] - at[None, None, None, :]) % size
    return first[rows, columns].reshape(size * size, size * size)


def transform(size, wavelet):
    columns = []
    for k in range(size * size):
        x = np.zeros(size * size)
        x[k] = 1
        a, (h, v, d) = pywt.dwt2(x.reshape(size, size), wavelet, "periodization")
        columns.append(np.concatenate([a.ravel(), v.ravel(), h.ravel(), d.ravel()]))
    return np.array(columns).T


def details(size, exponent, wavelet, horizon, steps):
    cov = transform(size, wavelet) @ field(size, exponent) @ transform(size, wavelet).T
    n = size * size // 4
    std = np.array([np.sqrt(np.diag(cov)[n * b:n * (b + 1)].mean()) for b in (1, 2, 3)])
    scale = np.repeat(1 / std, n)
    low, cross = cov[:n, :n], cov[n:, :n] * scale[:, None]
    whole = cov[n:, n:] * scale[:, None] * scale[None]
    gain = cross @ np.linalg.inv(low)
    given = whole - gain @ cross.T
    e, m = np.linalg.eigvalsh(given), np.linalg.eigvalsh(whole)
    return dict(size=size, exponent=exponent, wavelet=wavelet, horizon=horizon, steps=steps, std=std.tolist(),
                conditional=[e.min(), e.max(), e.sum()], marginal=[m.min(), m.max(), m.sum()],
                kl=reverse(given, gain, low, horizon, steps), low_trace=np.trace(low))


def pixels(size, exponent, horizon, steps):
    cov = field(size, exponent)
    d = len(cov)
    return dict(size=size, exponent=exponent, horizon=horizon, steps=steps,
                kl=reverse(cov, np.zeros((d, 1)), np.zeros((1, 1)), horizon, steps),
                condition=np.linalg.cond(cov))


with open(os.path.join(HERE, "theory.json"), "w") as f:
    json.dump(dict(pixels=[pixels(8, 2.0, 1.1, 40), pixels(6, 1.0, 0.8, 25)],
                   details=[details(8, 2.0, "haar", 1.0, 20), details(8, 2.0, "db2", 0.7, 15),
                            details(16, 1.5, "haar", 1.2, 12)]), f, indent=1)
