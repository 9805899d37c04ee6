"""Makes ema.json: decays of diffusers' EMAModel and of score_sde, and EDM2's power-function averages, in numpy.

    python ema.py        (needs numpy and diffusers)
"""
import json, os
import numpy as np
from diffusers.training_utils import EMAModel

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = [1, 2, 3, 5, 10, 11, 12, 100, 1000, 31600]


def diffusers_decays():
    cases = [
        dict(decay=0.9999),
        dict(decay=0.9999, use_ema_warmup=True),
        dict(decay=0.99, min_decay=0.3, update_after_step=10, use_ema_warmup=True, inv_gamma=2.0, power=0.75),
        dict(decay=0.9, min_decay=0.2, update_after_step=4),
    ]
    return [dict(case, decays=[EMAModel([], **case).get_decay(n) for n in STEPS]) for case in cases]


def score_sde_average():
    # The update as its paper's program does it, on a scalar.
    shadow, out = 0.7, []
    for n in range(1, 31):
        shadow -= (1 - min(0.75, (1 + n) / (10 + n))) * (shadow - np.sin(n))
        out.append(shadow)
    return out


def gamma_of(sigma_rel):
    # The cubic (g + 2)^2 (g + 3) sigma^2 = g + 1, its largest real root.
    r = sigma_rel ** -2
    return float(np.roots([1, 7, 16 - r, 12 - r]).real.max())


def profile(step, gamma, s):
    return np.where(s <= step, (gamma + 1) * (s / step) ** gamma / step, 0)


def reconstruction():
    snapshots = [[float(t), gamma_of(s)] for t in (250, 500, 750, 1000) for s in (0.05, 0.1)]
    targets = [[1000.0, gamma_of(s)] for s in (0.03, 0.07, 0.15)] + [[800.0, gamma_of(0.1)]]
    # Inner products by quadrature over time, piecewise between the snapshots, so that no closed form is needed.
    nodes, weights = np.polynomial.legendre.leggauss(200)
    edges = [0, 250, 500, 750, 800, 1000]
    s = np.concatenate([(b - a) / 2 * nodes + (a + b) / 2 for a, b in zip(edges, edges[1:])])
    w = np.concatenate([(b - a) / 2 * weights for a, b in zip(edges, edges[1:])])
    basis = np.stack([profile(t, g, s) for t, g in snapshots])
    return dict(snapshots=snapshots, targets=targets, weights=[
        np.linalg.lstsq((basis * np.sqrt(w)).T, profile(t, g, s) * np.sqrt(w), rcond=None)[0].tolist() for t, g in targets])


with open(os.path.join(HERE, "ema.json"), "w") as f:
    json.dump(dict(steps=STEPS, diffusers=diffusers_decays(), score_sde=score_sde_average(),
                   gammas=[[s, gamma_of(s)] for s in (0.01, 0.05, 0.1, 0.2, 0.28)],
                   reconstruction=reconstruction()), f, indent=1)
