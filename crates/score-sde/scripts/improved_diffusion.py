"""Makes tests/cases/process.safetensors and unet-*.safetensors with improved-diffusion itself (GitHub openai/improved-diffusion).

    PYTHONPATH=<a checkout of it> python improved_diffusion.py

Parameters and the processes' network are formulas, so that none need to be stored: see committed.rs, which repeats them.
"""
import json, os, struct
import numpy as np, torch as th
from improved_diffusion import gaussian_diffusion as gd
from improved_diffusion.respace import SpacedDiffusion, space_timesteps
from improved_diffusion import unet
from improved_diffusion.unet import UNetModel

# Without this, conv_resample=False does not construct: it is called with the stride where the dimension belongs.
unet.avg_pool_nd = th.nn.AvgPool2d

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/cases")


def save(name, tensors):
    head, data = {}, b""
    for key, t in tensors.items():
        raw = t.detach().numpy().astype("<f4").tobytes()
        head[key] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(head).encode()
    head += b" " * (-len(head) % 8)
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)


def processes():
    th.manual_seed(1)
    shape = (3, 2, 3, 3)
    # 8-bit values, some of them the outermost.
    x0 = (th.rand(shape) * 280 - 12).round().clamp(0, 255) / 127.5 - 1
    out = {"x0": x0, "noise": th.randn(shape), "zs": th.randn(6, *shape), "start": th.randn(shape)}
    cases = [
        ("epsilon", "fixed_small", "mse", "linear", 1000, "6"),
        ("epsilon", "fixed_large", "kl", "linear", 500, "ddim5"),
        ("start_x", "fixed_large", "mse", "cosine", 1000, "4,2"),
        ("epsilon", "learned_range", "rescaled_mse", "cosine", 4000, "6"),
        ("start_x", "learned_range", "rescaled_kl", "linear", 1000, "3,3"),
        ("previous_x", "learned", "mse", "cosine", 6, ""),
    ]
    for n, (mean, var, loss, schedule, steps, spacing) in enumerate(cases):
        d = SpacedDiffusion(
            use_timesteps=space_timesteps(steps, spacing or [steps]),
            betas=gd.get_named_beta_schedule(schedule, steps),
            model_mean_type=gd.ModelMeanType[mean.upper()],
            model_var_type=gd.ModelVarType[var.upper()],
            loss_type=gd.LossType[loss.upper()],
            rescale_timesteps=n % 2 == 0,
        )
        a, b = th.tensor(0.9, requires_grad=True), th.tensor(0.5, requires_grad=True)

        def model(x, t):
            t = t.float()[:, None, None, None] * 0.001
            first = th.tanh(a * x + 0.3) - 0.2 * t
            return th.cat([first, th.tanh(b * x - 0.2 + 0.5 * t)], 1) if "learned" in var else first

        t = th.tensor([0, 1, d.num_timesteps - 1])
        losses = d.training_losses(model, x0, t, noise=out["noise"])
        losses["loss"].sum().backward()
        for key, value in losses.items():
            out[f"{n}.{key}"] = value
        out[f"{n}.grads"] = th.stack([a.grad, th.tensor(0.0) if b.grad is None else b.grad])
        x_t = d.q_sample(x0, t, noise=out["noise"])
        out[f"{n}.x_t"] = x_t
        for key, value in d.p_mean_variance(model, x_t, t).items():
            out[f"{n}.p_{key}"] = value
        out[f"{n}.reverse"] = d.ddim_reverse_sample(model, x_t, t)["sample"]
        draws = []
        th.randn_like, fresh = (lambda x: draws.pop(0)), th.randn_like
        for key, run in [("ddpm", d.p_sample_loop), ("ddim", lambda *k, **w: d.ddim_sample_loop(*k, eta=0.5, **w))]:
            draws[:] = list(out["zs"])
            out[f"{n}.{key}"] = run(model, shape, noise=out["start"], device="cpu")
        draws[:] = list(out["zs"])
        for key, value in d.calc_bpd_loop(model, x0).items():
            out[f"{n}.bpd_{key}"] = value
        th.randn_like = fresh
    save("process.safetensors", out)


def unets():
    shared = dict(in_channels=3, model_channels=32, num_res_blocks=1, channel_mult=(1, 2))
    options = [
        dict(out_channels=6, attention_resolutions=(2,), num_heads=2, num_heads_upsample=4, num_classes=3,
             conv_resample=False, use_scale_shift_norm=True),
        dict(out_channels=3, attention_resolutions=(1,), num_heads=1, conv_resample=True, use_scale_shift_norm=False,
             dropout=0.1),
    ]
    for n, option in enumerate(options):
        net = UNetModel(**shared, **option).eval()
        named = sorted(net.named_parameters())
        for k, (name, p) in enumerate(named):
            wave = np.sin(1.3 * np.arange(p.numel()) + k)
            one = p.dim() == 1 and name.endswith("weight")
            scale = 0.1 if p.dim() == 1 else (p.numel() / p.shape[0]) ** -0.5
            p.data = th.from_numpy((one + scale * wave).astype("f4")).reshape(p.shape)
        th.manual_seed(n)
        x = th.randn(2, 3, 8, 8, requires_grad=True)
        t = th.tensor([3.0, 742.5])
        label = th.tensor([2, 0]) if option.get("num_classes") else None
        y = net(x, t, label)
        w = th.randn_like(y)
        (y * w).sum().backward()
        dots = [float((p.grad.double().flatten() * th.sin(0.7 * th.arange(p.numel()).double())).sum()) for _, p in named]
        save(f"unet-{n}.safetensors",
             dict(x=x, t=t, w=w, y=y, grad_x=x.grad, grad_dots=th.tensor(dots)))


processes()
unets()
