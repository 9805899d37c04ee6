"""Makes tests/cases/objectives.safetensors with score_sde's losses.py itself (GitHub yang-song/score_sde_pytorch) on a toy network.

    PYTHONPATH=<a checkout of it> python objectives.py

Its times and noise are fixed by replacing torch's generators; pictures go through one at a time, since it returns means.
objective.rs repeats the network.
"""
import json, os, struct
import torch
import losses, sde_lib

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/cases")
SHAPE = (3, 2, 3, 3)


class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(0.9))
        self.b = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x, labels):
        t = labels.float()[:, None, None, None] * 0.001
        return torch.tanh(self.a * x + 0.3) - self.b * t


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


torch.manual_seed(4)
x0, noise = torch.rand(SHAPE) * 2 - 1, torch.randn(SHAPE)
u, labels = torch.tensor([0.03, 0.4, 0.97]), torch.tensor([0, 417, 999])
out = {"x0": x0, "noise": noise, "u": u, "labels": labels.float()}
kinds = {
    "vp": sde_lib.VPSDE(0.1, 20, 1000),
    "subvp": sde_lib.subVPSDE(0.1, 20, 1000),
    "ve": sde_lib.VESDE(0.01, 50, 1000),
}
cases = {
    f"{kind}.{'likelihood' if weighted else 'variance'}.{'mean' if mean else 'sum'}":
        losses.get_sde_loss_fn(sde, True, reduce_mean=mean, continuous=True, likelihood_weighting=weighted, eps=1e-5)
    for kind, sde in kinds.items() for weighted in (False, True) for mean in (False, True)
}
for mean in (False, True):
    cases[f"smld.{'mean' if mean else 'sum'}"] = losses.get_smld_loss_fn(kinds["ve"], True, reduce_mean=mean)
    cases[f"ddpm.{'mean' if mean else 'sum'}"] = losses.get_ddpm_loss_fn(kinds["vp"], True, reduce_mean=mean)

for name, loss_fn in cases.items():
    model, each = Toy(), []
    for i in range(SHAPE[0]):
        torch.rand = lambda *k, **w: u[i:i + 1]
        torch.randint = lambda *k, **w: labels[i:i + 1]
        torch.randn_like = lambda x: noise[i:i + 1]
        each.append(loss_fn(model, x0[i:i + 1]))
    torch.stack(each).sum().backward()
    out[f"{name}.losses"] = torch.stack(each)
    out[f"{name}.grads"] = torch.stack([model.a.grad, model.b.grad])
save("objectives.safetensors", out)
