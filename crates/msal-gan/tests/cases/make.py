"""Makes the folders beside it with the official program itself (GitHub Shixuan01/WMGM), random weights, small sizes.

    PYTHONPATH=<a checkout of it> python make.py       (needs torch, safetensors, PyWavelets)

Each has the form of the golden folder's case of that name: case.json, io.safetensors, weights.pth.
"""
import json
import os
from types import SimpleNamespace

import Attention_GAN
import pytorch_ssim
import pywt
import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))


def save(name, description, config, tensors, weights=None):
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "case.json"), "w") as f:
        json.dump({"description": description, "config": config}, f, indent=1)
        f.write("\n")
    plain = {k: v.detach().clone().contiguous().reshape(v.shape or (1,)) for k, v in tensors.items()}
    save_file(plain, os.path.join(folder, "io.safetensors"))
    if weights is not None:
        torch.save(weights, os.path.join(folder, "weights.pth"))


def roughen(net):
    """Weights as after some training: nothing at its initial one or zero."""
    for name, p in list(net.named_parameters()) + list(net.named_buffers()):
        if name.endswith("running_var"):
            p.data.uniform_(0.3, 1.7)
        elif p.dtype.is_floating_point and p.dim() == 1:
            p.data.add_(0.2 * torch.randn_like(p))
    return net


def state(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def generator(pooling):
    config = SimpleNamespace(n_channels=2)
    return roughen(Attention_GAN.Generator(config, in_channels=6, out_channels=9, pooling_mode=pooling + "pool"))


def discriminator():
    net = roughen(Attention_GAN.Discriminator(SimpleNamespace(n_channels=3, n_blocks=2), in_channels=3))
    for m in net.modules():
        if isinstance(m, torch.nn.Dropout):
            m.p = 0.0
    return net


def grads(net, prefix):
    return {prefix + k: p.grad for k, p in net.named_parameters()}


def generator_case(name, pooling):
    net = generator(pooling)
    weights = state(net)
    x = torch.randn(3, 6, 16, 32, requires_grad=True)
    y_eval = net.eval()(x)
    net.load_state_dict(weights)
    y_train = net.train()(x)
    w = torch.randn_like(y_train)
    net.zero_grad()
    x.grad = None
    (y_train * w).sum().backward()
    after = {"after_train." + k: v for k, v in net.state_dict().items() if "running" in k}
    tensors = {"x": x, "w": w, "y_eval": y_eval, "y_train": y_train, "grad_x": x.grad, **grads(net, "grad."), **after}
    config = {"n_channels": 2, "in_channels": 6, "out_channels": 9, "pooling": pooling, "leaky_relu_slope": 0.1}
    save(name, "Official generator, as the golden case wmgm-generator.", config, tensors, weights)
    net.load_state_dict(weights)
    return net


def discriminator_case():
    net = discriminator()
    weights = state(net)
    x = torch.rand(3, 3, 17, 20, requires_grad=True)
    y_eval = net.eval()(x)
    y_train = net.train()(x)
    torch.mean(torch.sigmoid(y_train)).backward()
    tensors = {"x": x, "y_eval": y_eval, "y_train": y_train, "grad_x": x.grad, **grads(net, "grad.")}
    config = {"n_channels": 3, "n_blocks": 2, "in_channels": 3}
    save("wmgm-discriminator", "Official discriminator, as the golden case of that name.", config, tensors, weights)
    net.load_state_dict(weights)
    return net


def dwt(x):
    low, high = pywt.dwt2(x.numpy(), "haar", mode="periodization", axes=(-2, -1))
    return torch.from_numpy(low), torch.cat([torch.from_numpy(h) for h in high], 1)


def idwt(low, high):
    """The inverse Haar transform by a transposed convolution, for gradients; checked against PyWavelets."""
    signs = torch.tensor([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]) * 0.5
    n, c, h, w = low.shape
    bands = torch.stack([low, *high.chunk(3, 1)], 2).reshape(n * c, 4, h, w)
    x = torch.nn.functional.conv_transpose2d(bands, signs[:, None], stride=2).reshape(n, c, 2 * h, 2 * w)
    with torch.no_grad():
        again_low, again_high = dwt(x.detach())
        assert (again_low - low).abs().max() < 1e-5 and (again_high - high).abs().max() < 1e-5
    return x


def losses_case(g, d):
    g.train()
    d.train()
    g.zero_grad()
    d.zero_grad()
    img = torch.rand(2, 3, 32, 64)
    low, high = dwt(img)
    target = idwt(low, high)
    noise = torch.randn_like(low)
    fake = idwt(low, g(torch.cat((low, noise), 1)))
    adv = -torch.mean(torch.sigmoid(d(fake)))
    ssim = 1 - pytorch_ssim.SSIM(size_average=True)((fake + 1.0) / 2.0, (target + 1.0) / 2.0)
    mse = torch.nn.functional.mse_loss(fake, target)
    total = 0.1 * adv + 20 * mse + 0.5 * ssim
    total.backward()
    out = {"img": img, "noise": noise, "target": target, "fake": fake, "g_adv": adv, "g_mse": mse, "g_ssim": ssim}
    out |= {"g_total": total, **{k: v.clone() for k, v in grads(g, "gradG.").items()}}
    d.zero_grad()
    d_total = (torch.mean(torch.sigmoid(d(fake.detach()))) - torch.mean(torch.sigmoid(d(target)))) * 0.5
    d_total.backward()
    out |= {"d_total": d_total, **grads(d, "gradD.")}
    config = {"alpha": 0.1, "lambda": 20, "nu": 0.5}
    save("wmgm-losses", "Official losses, as the golden case of that name.", config, out)


def sampling_case(g):
    g.eval()
    out = {"low": torch.rand(1, 3, 16, 16)}
    x = out["low"] * 4.0
    with torch.no_grad():
        for k in range(2):
            out[f"noise{k}"] = torch.randn_like(x)
            x = idwt(x, g(torch.cat((x, out[f"noise{k}"]), 1)))
            out[f"level{k}"] = x
    save("wmgm-sampling", "Official second stage, as the golden case of that name.", {"depth": 2}, out)


def ssim_case():
    a = torch.rand(3, 2, 13, 9, requires_grad=True)
    b = (a.detach() + 0.2 * torch.randn_like(a)).clamp(0, 1)
    value = pytorch_ssim.SSIM(size_average=True)(a, b)
    value.backward()
    each = pytorch_ssim.SSIM(size_average=False)(a, b)
    save("ssim", "SSIM of the official code.", {}, {"a": a, "b": b, "ssim": value, "ssim_per_image": each, "grad_a": a.grad})


torch.manual_seed(5)
net_g = generator_case("wmgm-generator", "max")
generator_case("wmgm-generator-avg", "avg")
net_d = discriminator_case()
weights = state(net_g)
losses_case(net_g, net_d)
net_g.load_state_dict(weights)
sampling_case(net_g)
ssim_case()
