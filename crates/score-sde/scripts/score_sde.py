"""Makes tests/cases/score-sde.safetensors with score_sde itself (GitHub yang-song/score_sde_pytorch).

    PYTHONPATH=<a checkout of it> python scripts/score_sde.py

Networks are formulas, which tests/sde.rs repeats. Holds, per process: the ODE sampler, likelihood with both probes,
inpainting and colourisation.
"""
import json, os, struct
import torch as th
import controllable_generation as control, likelihood, sampling, sde_lib

SHAPE = (2, 3, 4, 4)


def save(name, tensors):
    head, data = {}, b""
    for key, t in tensors.items():
        raw = t.detach().numpy().astype("<f4").tobytes()
        head[key] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(head).encode()
    head += b" " * (-len(head) % 8)
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "../tests/cases", name), "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)


class Noise(th.nn.Module):
    """For VP and sub-VP: predicts noise."""

    def forward(self, x, labels):
        return th.tanh(0.9 * x + 0.3) - 0.0002 * labels[:, None, None, None]


class Score(th.nn.Module):
    """For VE."""

    def forward(self, x, sigma):
        return -(x + 0.3 * th.sin(x)) / (1 + sigma[:, None, None, None] ** 2)


th.manual_seed(3)
out = {"x": th.rand(SHAPE) * 2 - 1, "prior": th.randn(SHAPE), "zs": th.randn(100, *SHAPE),
       "mask": (th.rand(SHAPE) < 0.5).float(), "signs": th.randint(0, 2, SHAPE) * 2.0 - 1}
out["gray"] = out["x"].mean(1, keepdim=True).expand(SHAPE).contiguous()
plain = lambda x: x
draws = []
randn_like, randint_like = th.randn_like, th.randint_like


def fresh():
    draws[:] = list(out["zs"])
    th.randn_like = lambda x: draws.pop(0)
    th.randint_like = lambda x, low, high: (out["signs"] + 1) / 2


cases = [
    ("vp", sde_lib.VPSDE(N=25), Noise(), "ancestral_sampling", 1e-3),
    ("subvp", sde_lib.subVPSDE(N=25), Noise(), "euler_maruyama", 1e-3),
    ("ve", sde_lib.VESDE(N=25), Score(), "reverse_diffusion", 1e-5),
]
for kind, sde, net, predictor, eps in cases:
    fresh()
    prior = out["prior"] * (50 if kind == "ve" else 1)
    y, nfe = sampling.get_ode_sampler(sde, SHAPE, plain, denoise=True, eps=eps, device="cpu")(net, prior)
    out[f"{kind}.ode"], out[f"{kind}.ode_nfe"] = y, th.tensor([float(nfe)])
    for probe in ["Rademacher", "Gaussian"]:
        fresh()
        f = likelihood.get_likelihood_fn(sde, lambda x: (x + 1) / 2, hutchinson_type=probe, eps=1e-3)
        bpd, z, nfe = f(net, out["x"])
        out[f"{kind}.{probe}.bpd"], out[f"{kind}.{probe}.z"] = bpd, z
        out[f"{kind}.{probe}.nfe"] = th.tensor([float(nfe)])
    sde.prior_sampling = lambda shape: prior
    predictor = sampling.get_predictor(predictor)
    # sub-VP has no Langevin steps there.
    corrector = sampling.get_corrector("none" if kind == "subvp" else "langevin")
    options = dict(inverse_scaler=plain, snr=0.16, n_steps=1, continuous=True, denoise=False, eps=eps)
    fresh()
    out[f"{kind}.inpaint"] = control.get_pc_inpainter(sde, predictor, corrector, **options)(net, out["x"], out["mask"])
    fresh()
    # Its start differs from ours in the grey channel, which nothing sees where no corrector comes first.
    none = sampling.get_corrector("none")
    out[f"{kind}.colourise"] = control.get_pc_colorizer(sde, predictor, none, **options)(net, out["gray"])
for key, t in out.items():
    assert th.isfinite(t).all(), key
save("score-sde.safetensors", out)
print({k: v.item() for k, v in out.items() if k.endswith("nfe")})
