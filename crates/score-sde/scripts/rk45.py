"""Makes tests/cases/rk45.json: scipy's RK45 on a toy problem, for the whole batch at once and for each picture alone.

    python scripts/rk45.py
"""
import json, os
import numpy as np
from scipy.integrate import solve_ivp

MU = [0.5, 3.0, 12.0]
START = [[1.0, 0.2], [2.0, -1.0], [-0.5, 0.3]]


def slope(t, y, mu):
    a, b = y[0::2], y[1::2]
    return np.stack([b + 0.1 * t, mu * (1 - a * a) * b - a + 0.3 * np.sin(5 * t)], 1).ravel()


def run(which, times, rtol, atol):
    s = solve_ivp(slope, times, np.array(START)[which].ravel(), rtol=rtol, atol=atol, method="RK45",
                  args=(np.array(MU)[which],))
    assert s.success
    return {"y": s.y[:, -1].tolist(), "evaluations": s.nfev}


cases = []
for times, rtol, atol in [((0.0, 4.0), 1e-5, 1e-5), ((0.1, 1e-3), 1e-3, 1e-6), ((0.0, 10.0), 1e-7, 1e-9)]:
    cases.append({"times": times, "rtol": rtol, "atol": atol, "batch": run([0, 1, 2], times, rtol, atol),
                  "alone": [run([i], times, rtol, atol) for i in range(3)]})
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "../tests/cases/rk45.json"), "w") as f:
    json.dump({"mu": MU, "start": START, "cases": cases}, f, indent=1)
