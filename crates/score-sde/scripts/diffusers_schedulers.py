"""Makes tests/cases/schedulers.safetensors with the schedulers of diffusers (PyPI, 0.42.1).

usage: python diffusers_schedulers.py
The networks are formulas, repeated by tests/schedulers.rs. A case is the state after every step and the grid; its
settings, in this crate's words, are in the tensor `cases` (JSON). The start and the noises are the same for all.
"""
import json, math, os, struct, warnings
import numpy as np, torch
import diffusers.utils
import diffusers.schedulers as S
from diffusers.schedulers.deprecated.scheduling_karras_ve import KarrasVeScheduler

warnings.filterwarnings("ignore")
diffusers.utils.logging.set_verbosity_error()
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/cases/schedulers.safetensors")
SHAPE, STEPS, LONG = (2, 3, 2, 2), 10, 16
torch.manual_seed(0)
START = torch.randn(SHAPE, dtype=torch.float64)
NOISES = torch.randn(LONG, *SHAPE, dtype=torch.float64)
tensors, cases = {"start": START, "noises": NOISES}, []


def save(path):
    head, data = {}, b""
    tensors["cases"] = torch.tensor(list(json.dumps(cases).encode()), dtype=torch.uint8)
    for key, t in tensors.items():
        raw = t.contiguous().numpy().tobytes()
        kind = {torch.float64: "F64", torch.uint8: "U8"}[t.dtype]
        head[key] = {"dtype": kind, "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(head).encode()
    head += b" " * (-len(head) % 8)
    with open(path + ".tmp", "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)
    os.replace(path + ".tmp", path)


def toy(kind, prediction, spread):
    """The exact prediction for data at -spread and spread, each with variance 0.04."""

    def model(x, t):
        u = (float(t) + 1) / 1000
        if kind == "flow":
            s = min(u, 0.9999)
            a = 1 - s
        else:
            bar = (math.cos((min(u, 0.999) + 0.008) / 1.008 * math.pi / 2) ** 2 if kind == "cosine"
                   else math.exp(-(0.1 * u + 9.95 * u * u)))
            a, s = math.sqrt(bar), math.sqrt(1 - bar)
        w = 0.04 * a * a + s * s
        x = x.double()
        clean = 0.04 * a / w * x + spread * s * s / w * torch.tanh(a * spread / w * x)
        eps = (x - a * clean) / s
        return {"sample": clean, "epsilon": eps, "v": a * eps - s * clean, "flow": eps - clean}[prediction]

    return model


def edm_net(x, c_noise):
    return torch.tanh(0.8 * x + 0.1 * float(c_noise)) - 0.2 * x


def patch(scheduler):
    """The scheduler's own fresh noise becomes that of the step."""
    import sys
    module = sys.modules[type(scheduler).__module__]
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = lambda *a, **k: NOISES[patch.step]


def record(name, states, sigmas, times, **settings):
    tensors[name + ".states"] = torch.stack(states).double()
    tensors[name + ".sigmas"] = torch.as_tensor(sigmas).double()
    tensors[name + ".times"] = torch.as_tensor(times).double()
    assert torch.isfinite(tensors[name + ".states"]).all(), name
    cases.append({"name": name, **settings})


def run(name, cls, prediction="epsilon", steps=STEPS, kind="linear", spread=0.6, eta=None, solver={}, grid={},
        learned=False, wrap={}, extra={}, kept="of_clipped", visited=None, step={}, **options):
    names = {"v": "v_prediction", "flow": "flow_prediction"}
    fixed = {"beta_schedule": "squaredcos_cap_v2"} if kind == "cosine" else {}
    s = cls(**{**fixed, **options, "prediction_type": names.get(prediction, prediction)})
    s.set_timesteps(**({"timesteps": visited} if visited else {"num_inference_steps": steps}))
    patch(s)
    if hasattr(s, "set_begin_index"):
        s.set_begin_index(0)  # else rounded times that come twice confuse it
    model = toy(kind, prediction, spread)
    ve = hasattr(s, "is_scale_input_called") or cls is S.HeunDiscreteScheduler
    x = START * float(s.init_noise_sigma)
    states, done = [], 0
    sigmas = getattr(s, "sigmas", torch.zeros(0)).clone()
    for t in s.timesteps:
        patch.step = done
        shown = s.scale_model_input(x, t) if ve else x
        y = model(shown, t)
        if learned:
            y = torch.cat([y, torch.tanh(0.5 * shown - 0.2)], 1)
        more = dict(step) if eta is None else {"eta": eta, "use_clipped_model_output": kept == "of_clipped"}
        if cls is S.DPMSolverMultistepScheduler:
            more["variance_noise"] = NOISES[done]
        x = s.step(y, t, x, **more).prev_sample
        # Heun's state between its two evaluations is no state of the sampler.
        if cls is not S.HeunDiscreteScheduler or s.state_in_first_order or len(states) == steps - 1:
            states.append(x)
            done += 1
    path = "flow" if options.get("use_flow_sigmas") else "variance_preserving"
    times = list(dict.fromkeys(s.timesteps.tolist())) if cls is S.HeunDiscreteScheduler else s.timesteps
    if cls is S.HeunDiscreteScheduler:
        sigmas = torch.cat([sigmas[:1], sigmas[1:-1][::2], sigmas[-1:]])
    betas = {"schedule": options.get("beta_schedule", "linear") if kind != "cosine" else "squaredcos_cap_v2",
             "beta_start": s.config.beta_start, "beta_end": s.config.beta_end,
             "zero_terminal_snr": options.get("rescale_betas_zero_snr", False)}
    record(name, states, sigmas, times, model=kind, prediction=prediction, spread=spread, betas=betas, ve=ve, path=path,
           start=float(s.init_noise_sigma), solver=solver, grid={"steps": steps, **grid}, **wrap, **extra)


def grid_of(options, family):
    """This crate's grid for a scheduler's options."""
    grid = {"points": family, "spacing": options.get("timestep_spacing", "linspace"),
            "steps_offset": options.get("steps_offset", 0)}
    cosine = options.get("kind") == "cosine"
    nearest = "down" if cosine else "nearest"
    if options.get("use_karras_sigmas"):
        grid.update(sigmas="karras", rounding=nearest if family == "without_zero" else "none")
    if options.get("use_lu_lambdas"):
        grid.update(sigmas="exponential", rounding=nearest)
    if options.get("use_exponential_sigmas"):
        grid.update(sigmas="exponential", rounding="down" if family == "without_zero" else "none")
    if options.get("use_flow_sigmas"):
        grid.update(sigmas="flow", rounding="down", flow_shift=options.get("flow_shift", 1.0))
    if options.get("final_sigmas_type") == "sigma_min":
        grid.update(final_sigma="sigma_min")
    if "lambda_min_clipped" in options:
        grid.update(lambda_min=options["lambda_min_clipped"])
    return grid


def wrap_of(options):
    wrap = {}
    if options.get("thresholding"):
        wrap["threshold"] = [options.get("dynamic_thresholding_ratio", 0.995), options.get("sample_max_value", 1.0)]
    return wrap


def dpm(name, **o):
    single = name.startswith("single")
    sde = o.get("algorithm_type", "") == "sde-dpmsolver++"
    sampler = "dpmpp_singlestep" if single else "dpmpp_multistep"
    solver = {"sampler": sampler + ("_sde" if sde else ""), "order": o.get("solver_order", 2),
              "form": o.get("solver_type", "midpoint"), "lower_order_final": o.get("lower_order_final", True),
              "euler_at_final": o.get("euler_at_final", False), "third": "published"}
    cls = S.DPMSolverSinglestepScheduler if single else S.DPMSolverMultistepScheduler
    run(name, cls, solver=solver, grid=grid_of(o, "without_zero"), wrap=wrap_of(o), **o)


def unipc(name, **o):
    solver = {"sampler": "unipc", "order": o.get("solver_order", 2), "bh": o.get("solver_type", "bh2"),
              "lower_order_final": o.get("lower_order_final", True), "uncorrected": o.get("disable_corrector", [])}
    grid = grid_of(o, "without_zero")
    if o.get("use_flow_sigmas"):
        grid["sigmas"] = "flow_from_one"
    run(name, S.UniPCMultistepScheduler, solver=solver, grid=grid, wrap=wrap_of(o), **o)


def deis(name, **o):
    solver = {"sampler": "deis", "order": o.get("solver_order", 2), "lower_order_final": o.get("lower_order_final", True)}
    # It always ends at the smallest noise level, on the spaced grids that of the process.
    grid = {**grid_of(o, "without_zero"), "final_sigma": "sigma_min"}
    run(name, S.DEISMultistepScheduler, solver=solver, grid=grid, wrap=wrap_of(o), **o)


def sigma_space(name, cls, solver, **o):
    run(name, cls, solver=solver, grid=grid_of(o, "fractional"), **o)


def discrete(name, cls, eta=None, **o):
    grid = grid_of({"timestep_spacing": "leading", **o}, "whole")
    if o.get("set_alpha_to_one") is False:
        grid["final_sigma"] = "sigma_min"
    wrap = {**wrap_of(o), **({"clip": o.get("clip_sample_range", 1.0)} if o["clip_sample"] else {})}
    solver = {"sampler": "ddim", "eta": eta} if cls is S.DDIMScheduler else {"sampler": "ddpm"}
    extra = {"variance": o["variance_type"]} if "variance_type" in o else {}
    # By the process alone: a denoiser in sigma knows no noise but that of its answer, and its steps join.
    if cls is S.DDIMScheduler and (o.get("kept") == "of_network" or o.get("timestep_spacing") == "linspace"):
        extra["process_alone"] = True
    if cls is S.DDIMScheduler:
        extra.update(kept=o.get("kept", "of_clipped"), end_at_one=o.get("set_alpha_to_one", True))
    run(name, cls, eta=eta, solver=solver, grid=grid, wrap=wrap, extra=extra, **o)


def churned(name, **o):
    """Euler with fresh noise, which its network does not see."""
    churn = {"s_churn": 4.0, "s_tmin": 0.5, "s_tmax": 30.0, "s_noise": 1.003}
    solver = {"sampler": "euler", "churn": churn, "evaluated": {"before_noise": o.get("prediction", "epsilon")}}
    sigma_space(name, S.EulerDiscreteScheduler, solver, step=churn, **o)


for order in 1, 2, 3:
    dpm(f"multi-{order}", solver_order=order)
    dpm(f"multi-sde-{order}", solver_order=order, algorithm_type="sde-dpmsolver++")
    dpm(f"single-{order}", solver_order=order)
    dpm(f"single-sde-{order}", solver_order=order, algorithm_type="sde-dpmsolver++")
    dpm(f"multi-karras-{order}", solver_order=order, use_karras_sigmas=True, euler_at_final=True)
    dpm(f"multi-long-{order}", solver_order=order, steps=LONG, timestep_spacing="leading", steps_offset=1)
    dpm(f"multi-low-{order}", solver_order=order, lower_order_final=False, final_sigmas_type="sigma_min")
    deis(f"deis-{order}", solver_order=order)
    deis(f"deis-karras-{order}", solver_order=order, use_karras_sigmas=True, lower_order_final=False)
    for bh in "bh1", "bh2":
        last = "zero" if bh == "bh2" else "sigma_min"
        unipc(f"unipc-{bh}-{order}", solver_order=order, solver_type=bh, final_sigmas_type=last)
    unipc(f"unipc-karras-{order}", solver_order=order, use_karras_sigmas=True)
for order in 2, 3:
    dpm(f"multi-heun-{order}", solver_order=order, solver_type="heun")
    dpm(f"multi-sde-heun-{order}", solver_order=order, solver_type="heun", algorithm_type="sde-dpmsolver++")
    dpm(f"single-heun-{order}", solver_order=order, solver_type="heun", use_karras_sigmas=True)
    dpm(f"single-sde-heun-{order}", solver_order=order, solver_type="heun", algorithm_type="sde-dpmsolver++")
    steps = 8 if order == 2 else 9
    dpm(f"single-free-{order}", solver_order=order, steps=steps, lower_order_final=False, final_sigmas_type="sigma_min")
    dpm(f"single-odd-{order}", solver_order=order, steps=11)
for prediction in "sample", "v":
    dpm(f"multi-{prediction}", prediction=prediction)
    dpm(f"single-{prediction}", prediction=prediction)
    unipc(f"unipc-{prediction}", prediction=prediction)
    deis(f"deis-{prediction}", prediction=prediction)
    sigma_space(f"euler-{prediction}", S.EulerDiscreteScheduler, {"sampler": "euler"}, prediction=prediction)
    sigma_space(f"heun-{prediction}", S.HeunDiscreteScheduler, {"sampler": "heun"}, prediction=prediction,
                use_karras_sigmas=True)
    discrete(f"ddim-{prediction}", S.DDIMScheduler, eta=0.5, prediction=prediction, clip_sample=False)
for spacing in "linspace", "leading", "trailing":
    dpm(f"multi-{spacing}", timestep_spacing=spacing, use_lu_lambdas=spacing == "leading")
    unipc(f"unipc-{spacing}", timestep_spacing=spacing, steps_offset=2, solver_order=3)
    deis(f"deis-{spacing}", timestep_spacing=spacing, solver_order=3)
    sigma_space(f"euler-{spacing}", S.EulerDiscreteScheduler, {"sampler": "euler"}, timestep_spacing=spacing)
    sigma_space(f"ancestral-{spacing}", S.EulerAncestralDiscreteScheduler, {"sampler": "euler_ancestral"},
                timestep_spacing=spacing)
    sigma_space(f"heun-{spacing}", S.HeunDiscreteScheduler, {"sampler": "heun"}, timestep_spacing=spacing)
dpm("multi-exponential", use_exponential_sigmas=True)
dpm("single-exponential", use_exponential_sigmas=True)
unipc("unipc-exponential", use_exponential_sigmas=True)
deis("deis-exponential", use_exponential_sigmas=True)
dpm("multi-scaled", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
dpm("multi-cosine", kind="cosine", lambda_min_clipped=-5.1)
dpm("multi-cosine-karras", kind="cosine", use_karras_sigmas=True, prediction="v")
dpm("multi-cosine-trailing", kind="cosine", lambda_min_clipped=-5.1, timestep_spacing="trailing", prediction="sample")
dpm("single-cosine", kind="cosine", lambda_min_clipped=-5.1)
dpm("multi-zero-snr", rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction="v")
dpm("multi-threshold", spread=1.4, thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1.5)
dpm("single-threshold", spread=1.4, thresholding=True, dynamic_thresholding_ratio=0.7, sample_max_value=1.5)
unipc("unipc-threshold", spread=1.4, thresholding=True)
deis("deis-threshold", spread=1.4, thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1.5)
unipc("unipc-partly", solver_order=3, disable_corrector=[0, 2])
unipc("unipc-uncorrected", solver_order=3, disable_corrector=list(range(STEPS)))
unipc("unipc-free", solver_order=3, lower_order_final=False, final_sigmas_type="sigma_min")
dpm("multi-flow", kind="flow", prediction="flow", use_flow_sigmas=True, flow_shift=3.0, solver_order=3)
unipc("unipc-flow", kind="flow", prediction="flow", use_flow_sigmas=True, flow_shift=3.0)
for name, o in {"karras": {"use_karras_sigmas": True}, "exponential": {"use_exponential_sigmas": True},
                "scaled": {"beta_schedule": "scaled_linear"}}.items():
    sigma_space(f"euler-{name}", S.EulerDiscreteScheduler, {"sampler": "euler"}, **o)
    sigma_space(f"heun-{name}", S.HeunDiscreteScheduler, {"sampler": "heun"}, **o)
sigma_space("euler-end", S.EulerDiscreteScheduler, {"sampler": "euler"}, timestep_spacing="leading", steps_offset=1,
            final_sigmas_type="sigma_min")
for eta in 0.0, 0.5, 1.0:
    discrete(f"ddim-{eta}", S.DDIMScheduler, eta=eta, clip_sample=False)
discrete("ddim-trailing", S.DDIMScheduler, eta=0.7, clip_sample=False, timestep_spacing="trailing")
discrete("ddim-clip", S.DDIMScheduler, eta=0.3, clip_sample=True, clip_sample_range=0.8)
discrete("ddim-threshold", S.DDIMScheduler, eta=0.3, clip_sample=False, spread=1.4, thresholding=True,
         dynamic_thresholding_ratio=0.9, sample_max_value=1.5)
discrete("ddim-end", S.DDIMScheduler, eta=0.0, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
for kept in "of_clipped", "of_network":
    for prediction in "epsilon", "sample", "v":
        discrete(f"ddim-{kept}-{prediction}", S.DDIMScheduler, eta=0.3, clip_sample=True, kept=kept,
                 prediction=prediction, spread=1.2)
    discrete(f"ddim-{kept}-threshold", S.DDIMScheduler, eta=0.0, clip_sample=False, kept=kept, spread=1.4,
             thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1.5)
for eta in 0.0, 0.7:
    discrete(f"ddim-linspace-{eta}", S.DDIMScheduler, eta=eta, clip_sample=False, timestep_spacing="linspace")
discrete("ddim-linspace-clip", S.DDIMScheduler, eta=0.5, clip_sample=True, timestep_spacing="linspace", spread=1.2,
         kept="of_network", prediction="v")
discrete("ddim-linspace-end", S.DDIMScheduler, eta=0.5, clip_sample=False, timestep_spacing="linspace",
         set_alpha_to_one=False, steps=7)
for prediction in "epsilon", "sample", "v":
    churned(f"euler-churn-{prediction}", prediction=prediction)
churned("euler-churn-karras", use_karras_sigmas=True)
for variance in "fixed_small", "fixed_large", "learned_range":
    discrete(f"ddpm-{variance}", S.DDPMScheduler, variance_type=variance, clip_sample=False,
             learned=variance == "learned_range")
discrete("ddpm-small-log", S.DDPMScheduler, variance_type="fixed_small_log", clip_sample=True)
discrete("ddpm-linspace", S.DDPMScheduler, variance_type="fixed_large", clip_sample=True, timestep_spacing="linspace")
discrete("ddpm-trailing", S.DDPMScheduler, variance_type="fixed_small", clip_sample=True, timestep_spacing="trailing",
         prediction="v")
# The last step visited is not step 0, and has noise.
for variance in "fixed_small", "fixed_large", "learned_range":
    o = dict(variance_type=variance, clip_sample=True, learned=variance == "learned_range")
    discrete(f"ddpm-noisy-trailing-{variance}", S.DDPMScheduler, timestep_spacing="trailing", **o)
    discrete(f"ddpm-noisy-offset-{variance}", S.DDPMScheduler, timestep_spacing="leading", steps_offset=7, **o)
    discrete(f"ddpm-noisy-list-{variance}", S.DDPMScheduler, visited=[950, 700, 512, 300, 120, 40], steps=6, **o)
discrete("ddpm-sample", S.DDPMScheduler, variance_type="fixed_small", clip_sample=False, prediction="sample",
         beta_schedule="sigmoid")


def edm(name, cls, steps=STEPS, solver={}, **o):
    s = cls(**o)
    s.set_timesteps(steps)
    patch(s)
    x, states = START * float(s.init_noise_sigma), []
    for i, t in enumerate(s.timesteps):
        patch.step = i
        x = s.step(edm_net(s.scale_model_input(x, t), t), t, x).prev_sample
        states.append(x)
    record(name, states, s.sigmas, s.timesteps, model="edm", start=float(s.init_noise_sigma), solver=solver,
           grid={"steps": steps}, schedule=o.get("sigma_schedule", "karras"), v=o.get("prediction_type") == "v_prediction",
           sigma_min_end=o.get("final_sigmas_type") == "sigma_min")


edm("edm-euler", S.EDMEulerScheduler, solver={"sampler": "euler"})
edm("edm-euler-exponential", S.EDMEulerScheduler, solver={"sampler": "euler"}, sigma_schedule="exponential",
    prediction_type="v_prediction", final_sigmas_type="sigma_min")
for order in 1, 2, 3:
    for sde in False, True:
        o = {"algorithm_type": "sde-dpmsolver++"} if sde else {}
        if order == 3 and sde:
            continue
        edm(f"edm-dpm{'-sde' * sde}-{order}", S.EDMDPMSolverMultistepScheduler, solver_order=order, **o,
            solver={"sampler": "dpmpp_multistep" + "_sde" * sde, "order": order, "third": "published",
                    "lower_order_final": True})


def churn():
    s = KarrasVeScheduler(sigma_min=0.1, sigma_max=5, s_noise=1.003, s_churn=4, s_min=0.05, s_max=20)
    s.set_timesteps(STEPS)
    patch(s)
    x, states, sigmas = START * float(s.schedule[-1]), [], []

    def score(x, sigma):
        total = 0.04 + sigma * sigma
        clean = 0.04 / total * x + 0.6 * sigma * sigma / total * torch.tanh(0.6 / total * x)
        return (clean - x) / sigma

    for i, t in enumerate(s.timesteps.tolist()):
        patch.step = i
        sigma, prev = s.schedule[t], s.schedule[t - 1] if t > 0 else torch.tensor(0.0)
        sigmas.append(float(sigma))
        hat, sigma_hat = s.add_noise_to_input(x, sigma)
        first = s.step(score(hat, sigma_hat), sigma_hat, prev, hat)
        x = first.prev_sample
        if prev != 0:
            x = s.step_correct(score(x, prev), sigma_hat, prev, hat, x, first.derivative).prev_sample
        states.append(x)
    record("churn", states, sigmas + [0.0], s.timesteps.flip(0) * 0, model="churn", start=float(s.schedule[-1]),
           solver={"sampler": "edm", "churn": {"s_churn": 4.0, "s_tmin": 0.05, "s_tmax": 20.0, "s_noise": 1.003}},
           grid={"steps": STEPS})


churn()
BETAS = [("linear", {}), ("scaled_linear", {}), ("squaredcos_cap_v2", {}), ("sigmoid", {}), ("laplace", {})]
for name, o in BETAS:
    tensors[f"betas.{name}"] = S.DDPMScheduler(beta_schedule=name, num_train_timesteps=50, beta_start=0.002,
                                               beta_end=0.3).betas.double()
tensors["betas.zero_snr"] = S.DDPMScheduler(num_train_timesteps=50, beta_start=0.002, beta_end=0.3,
                                            rescale_betas_zero_snr=True).betas.double()
save(OUT)
print(len(cases), "cases,", os.path.getsize(OUT), "bytes")
