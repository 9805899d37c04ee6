"""Makes optimiser.safetensors with PyTorch itself: AdamW and gradient clipping, step by step.

    python make.py        (needs torch and safetensors)
"""
import os

import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))


def adamw():
    torch.manual_seed(3)
    start = {"a": torch.randn(5, 3), "b": torch.randn(7)}
    params = {k: torch.nn.Parameter(v.clone()) for k, v in start.items()}
    out = {f"start.{k}": v for k, v in start.items()}
    opt = torch.optim.AdamW(params.values(), lr=2e-3, betas=(0.85, 0.97), eps=1e-7, weight_decay=0.3)
    for step in range(8):
        if step == 4:
            opt.param_groups[0]["lr"] = 5e-2
        for k, p in params.items():
            # b has no gradient in some steps; some gradients are large, some tiny.
            p.grad = None if k == "b" and step in (2, 5) else torch.randn(p.shape) * 10.0 ** (step % 4 - 2)
            if p.grad is not None:
                out[f"grad.{step}.{k}"] = p.grad.clone()
        opt.step()
        for k, p in params.items():
            out[f"value.{step}.{k}"] = p.detach().clone()
    for k, p in params.items():
        out[f"exp_avg.{k}"], out[f"exp_avg_sq.{k}"] = opt.state[p]["exp_avg"], opt.state[p]["exp_avg_sq"]
    return out


def clip():
    torch.manual_seed(4)
    params = [torch.nn.Parameter(torch.zeros(s)) for s in ((33,), (4, 5))]
    out = {}
    for i, p in enumerate(params):
        p.grad = torch.randn(p.shape)
        out[f"clip.grad.{i}"] = p.grad.clone()
    out["clip.norm"] = torch.nn.utils.clip_grad_norm_(params, 0.7).reshape(1)
    for i, p in enumerate(params):
        out[f"clip.clipped.{i}"] = p.grad.clone()
    return out


save_file({**adamw(), **clip()}, os.path.join(HERE, "optimiser.safetensors"))
