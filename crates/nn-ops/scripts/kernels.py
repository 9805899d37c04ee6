"""The CUDA kernels' arithmetic against PyTorch, without a GPU: kernels.cu is compiled as C++, its threads are threads.

usage: kernels.py        needs torch, numpy and a C++20 compiler (CXX, g++ unless set); about five seconds

Checks what the kernels compute and that their barriers are reached by all threads, in f32; of the conversions to bf16 and
f16, of speed, and of what the card does otherwise, it says nothing: that is WMGM_TEST_DEVICE=cuda cargo test --test parity.
"""

import ctypes as C, math, os, pathlib, re, subprocess, sys, tempfile
import numpy as np, torch
from torch.nn import functional as F

SHIM = r"""
#include <barrier>
#include <cmath>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>
#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__ static
struct Dim { unsigned x, y, z; };
static thread_local Dim threadIdx;
static Dim blockIdx, blockDim;
static std::barrier<> *block;
inline void __syncthreads() { block->arrive_and_wait(); }
inline float __uint_as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }
inline unsigned __float_as_uint(float f) { unsigned u; memcpy(&u, &f, 4); return u; }
inline float __int_as_float(int i) { return __uint_as_float((unsigned)i); }
static void launch(unsigned blocks, unsigned threads, std::function<void()> kernel) {
  blockDim = {threads, 1, 1};
  std::barrier<> all(threads);
  block = &all;
  std::vector<std::thread> running;
  // Every thread walks through all blocks, in step with the others.
  for (unsigned t = 0; t < threads; t++) running.emplace_back([&, t] {
    threadIdx = {t, 0, 0};
    for (unsigned i = 0; i < blocks; i++) {
      all.arrive_and_wait();
      if (t == 0) blockIdx = {i, 0, 0};
      all.arrive_and_wait();
      kernel();
      all.arrive_and_wait();
    }
  });
  for (auto &t : running) t.join();
}
"""


def build(folder):
    source = (pathlib.Path(__file__).parent.parent / "src/cuda/kernels.cu").read_text()
    # The conversions of f16 are the card's instructions.
    source = re.sub(r'asm\("cvt\.f32\.f16.*?\);', "r = 0;", source)
    source = re.sub(r'asm\("cvt\.rn\.f16.*?\);', "p->bits = 0;", source)
    entries = []
    for name, kind, arguments in re.findall(r'extern "C" __global__ void (\w+?)(_##T)?\((.*?)\) \{', source):
        arguments = arguments.replace("const T *", "const float *").replace("T *", "float *")
        names = ", ".join(a.split()[-1].lstrip("*") for a in arguments.split(","))
        called = name + ("_f32" if kind else "")
        entries.append(
            f'extern "C" void run_{name}(unsigned blocks, unsigned threads, {arguments}) '
            f"{{ launch(blocks, threads, [&] {{ {called}({names}); }}); }}"
        )
    path = pathlib.Path(folder, "kernels.cpp")
    path.write_text(SHIM + source + "\n".join(entries))
    library = path.with_suffix(".so")
    compiler = os.environ.get("CXX", "g++")
    subprocess.run(
        [compiler, "-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", "-w", "-o", library, path], check=True
    )
    return C.CDLL(library)


with tempfile.TemporaryDirectory() as folder:
    library = build(folder)
torch.manual_seed(0)
torch.set_num_threads(1)
failed = []


def run(name, B, N, *a):
    conv = []
    for v in a:
        if isinstance(v, torch.Tensor):
            assert v.is_contiguous()
            conv.append(C.c_void_p(v.data_ptr()))
        elif isinstance(v, float):
            conv.append(C.c_float(v))
        elif isinstance(v, int):
            conv.append(C.c_longlong(v))
        else:
            conv.append(v)
    getattr(library, "run_" + name)(C.c_uint(B), C.c_uint(N), *conv)


def chk(n, a, b, t=2e-5):
    e = ((a - b).abs().max() / b.abs().max().clamp(min=1e-9)).item()
    print(f"{n:28s} {e:.1e}", "" if e < t else "WRONG")
    if not e < t:
        failed.append(n)


N = 32


def ew(n):
    return (n + N - 1) // N


x = torch.randn(2, 3, 6, 8)
dy = torch.randn(2, 3, 6, 8)
y = torch.empty_like(x)
n = x.numel()
xv = x.clone().requires_grad_()
for kind, f in ((1, F.silu), (2, lambda v: F.leaky_relu(v, 0.2))):
    run("activation", ew(n), N, x, y, n, kind, 0.2)
    chk("act%d" % kind, y, f(x))
    o = f(xv)
    (g,) = torch.autograd.grad(o, xv, dy)
    run("activation_grad", ew(n), N, x, dy, y, n, kind, 0.2)
    chk("act grad%d" % kind, y, g)
run("add_scaled", ew(n), N, x, dy, y, n, 0.7)
chk("add_scaled", y, (x + dy) * 0.7)
b = torch.randn(3)
run("add_bias", ew(n), N, x, b, y, n, 3, 48)
chk("add_bias", y, x + b[None, :, None, None])
s = torch.empty(3)
run("channel_sum", 3, N, dy, s, 2, 3, 48)
chk("channel_sum", s, dy.sum((0, 2, 3)))


def pair(name, f, k, gk, args, gargs, xin=False, xs=x):
    xv = xs.clone().requires_grad_()
    o = f(xv)
    d = torch.randn_like(o)
    (g,) = torch.autograd.grad(o, xv, d)
    y = torch.empty_like(o).detach()
    run(k, ew(y.numel()), N, xs, y, y.numel(), *args)
    chk(name, y, o.detach())
    dx = torch.empty_like(xs)
    ins = (xs, d) if xin else (d,)
    run(gk, ew(dx.numel()), N, *ins, dx, dx.numel(), *gargs)
    chk(name + " grad", dx, g)


pair(
    "nearest",
    lambda v: F.interpolate(v, scale_factor=2, mode="nearest"),
    "repeat2x",
    "gather2x",
    (6, 8, 1.0),
    (6, 8, 1.0),
)
pair("avg", lambda v: F.avg_pool2d(v, 2), "gather2x", "repeat2x", (3, 4, 0.25), (3, 4, 0.25))
for sh in ((2, 3, 6, 8), (1, 2, 1, 1), (1, 2, 3, 5)):
    xs = torch.randn(sh)
    h, w = sh[2:]
    pair(
        "bilinear",
        lambda v: F.interpolate(v, scale_factor=2, mode="bilinear", align_corners=False),
        "bilinear2x",
        "bilinear2x_grad",
        (h, w),
        (h, w),
        xs=xs,
    )
for sh in ((2, 3, 6, 8), (2, 3, 5, 7)):
    xs = torch.randn(sh)
    h, w = sh[2:]
    pair("max", lambda v: F.max_pool2d(v, 2), "max2x", "max2x_grad", (h, w), (h, w), True, xs)


# upfirdn by definition
class Taps(C.Structure):
    _fields_ = [("v", C.c_float * 32)]


def fir(xs, taps, up, down, before, oh, ow):
    h, w = xs.shape[2:]

    def mat(n, o):
        M = torch.zeros(n, o)
        for j in range(o):
            for t, tap in enumerate(taps):
                a = j * down + t - before
                if a >= 0 and a % up == 0 and a // up < n:
                    M[a // up, j] += tap
        return M

    return torch.einsum("nchw,ho,wp->ncop", xs, mat(h, oh), mat(w, ow))


for taps, up, down, before, oh, ow in (
    ([0.25, 0.75, 0.75, 0.25], 2, 1, 2, 12, 16),
    ([0.125, 0.375, 0.375, 0.125], 1, 2, 1, 3, 4),
    ([1, 2, 0.5], 1, 1, -1, 3, 5),
):
    T = Taps()
    for i, v in enumerate(taps):
        T.v[i] = v
    y = torch.empty(2, 3, oh, ow)
    run("upfirdn", ew(y.numel()), N, x, y, y.numel(), 6, 8, oh, ow, up, down, before, len(taps), T)
    chk("upfirdn", y, fir(x, taps, up, down, before, oh, ow))
xs = torch.randn(7, 37) * 5
y = torch.empty_like(xs)
run("softmax", 7, N, xs, y, 37, 0.3)
xv = xs.clone().requires_grad_()
o = torch.softmax(xv * 0.3, -1)
chk("softmax", y, o.detach())
d = torch.randn(7, 37)
(g,) = torch.autograd.grad(o, xv, d)
dx = torch.empty_like(xs)
run("softmax_grad", 7, N, y, d, dx, 37, 0.3)
chk("softmax grad", dx, g)
for rows in (0, 1):
    for silu in (0, 1):
        n_, c, gr = 2, 12, 3
        xs = torch.randn(n_, c, 5, 7) + 3
        px = 35
        sc = torch.randn(*((n_, c) if rows else (c,)))
        sh = torch.randn_like(sc)
        vs = [t.clone().requires_grad_() for t in (xs, sc, sh)]
        o = F.group_norm(vs[0], gr, None, None, 1e-5) * (vs[1].reshape(-1, c, 1, 1)) + vs[2].reshape(-1, c, 1, 1)
        if silu:
            o = F.silu(o)
        d = torch.randn_like(o)
        gs = torch.autograd.grad(o, vs, d)
        y = torch.empty_like(xs)
        run("group_norm", n_ * gr, N, xs, sc, sh, y, gr, c // gr, px, rows, silu, 1e-5)
        chk(f"group_norm {rows}{silu}", y, o.detach())
        sums = torch.empty(2 * n_ * c + 2 * n_ * gr)
        run("group_norm_sums", n_ * gr, N, xs, d, sc, sh, sums, n_, gr, c // gr, px, rows, silu, 1e-5)
        dx = torch.empty_like(xs)
        run("group_norm_grad", n_ * gr, N, xs, d, sc, sh, sums, dx, n_, gr, c // gr, px, rows, silu)
        chk("  dx", dx, gs[0])
        p = sums[: 2 * n_ * c].reshape(2, n_, c)
        p = p if rows else p.sum(1)
        chk("  dscale", p[1], gs[1])
        chk("  dshift", p[0], gs[2])
n_, c, px = 4, 6, 35
xs = torch.randn(n_, c, 5, 7) * 2 + 30
sc, sh = torch.randn(c), torch.randn(c)
for tr in (1, 0):
    vs = [t.clone().requires_grad_() for t in (xs, sc, sh)]
    st = torch.empty(2 * c)
    run("batch_stats", c, N, xs, st, n_, c, px)
    if tr:
        chk("bn mean", st[:c], xs.mean((0, 2, 3)))
        chk("bn var", st[c:], xs.var((0, 2, 3), unbiased=False))
    else:
        st = torch.rand(2 * c) + 0.5
    o = (
        F.batch_norm(vs[0], None, None, vs[1], vs[2], True, eps=1e-5)
        if tr
        else F.batch_norm(vs[0], st[:c].clone(), st[c:].clone(), vs[1], vs[2], False, eps=1e-5)
    )
    d = torch.randn_like(o)
    gs = torch.autograd.grad(o, vs, d)
    y = torch.empty_like(xs)
    m = xs.numel()
    run("batch_norm", ew(m), N, xs, sc, sh, st, y, m, c, px, 1e-5)
    chk("bn", y, o.detach())
    sums = torch.empty(2 * c)
    run("batch_norm_sums", c, N, xs, d, st, sums, n_, c, px, 1e-5)
    dx = torch.empty_like(xs)
    run("batch_norm_grad", ew(m), N, xs, d, sc, st, sums, dx, m, c, px, n_ * px, tr, 1e-5)
    chk(" dx", dx, gs[0], 1e-4)
    chk(" dscale", sums[c:], gs[1], 1e-4)
    chk(" dshift", sums[:c], gs[2])
# optimisers
sizes = [15, 1, 1000, 7]
SP = 64
ps = [torch.randn(k) for k in sizes]
gs = [torch.randn(k) for k in sizes]
rows = []
blk = 0
at = 0
for p, g in zip(ps, gs):
    ab = np.array([0.01 / (1 - 0.9), 1 / math.sqrt(1 - 0.999)], np.float32).view(np.uint64)[0]
    rows += [p.data_ptr(), g.data_ptr(), at, p.numel(), blk, int(ab)]
    at += p.numel()
    blk += -(-p.numel() // SP)
R = torch.from_numpy(np.array(rows, np.uint64).view(np.int64))
ss = torch.zeros(blk)
run("sum_of_squares", blk, N, R, ss, len(sizes), SP)
chk("squares", ss.sum()[None], sum((g**2).sum() for g in gs)[None])
ref = [p.clone().requires_grad_() for p in ps]
opt = torch.optim.AdamW(ref, lr=0.01, weight_decay=0.01)
for r, g in zip(ref, gs):
    r.grad = g.clone()
opt.step()
m = torch.zeros(at)
v = torch.zeros(at)
sh = torch.cat(ps).clone()
old = sh.clone()
run("adamw", blk, N, R, m, v, len(sizes), SP, 0.1, 0.999, 0.001, 1 - 0.01 * 0.01, 1e-8)
chk("adamw", torch.cat(ps), torch.cat([r.detach() for r in ref]))
run("ema", blk, N, R, sh, len(sizes), SP, 0.9)
chk("ema", sh, torch.cat(ps) + (old - torch.cat(ps)) * 0.9)

print(f"{len(failed)} wrong: {', '.join(failed)}" if failed else "all right")
sys.exit(bool(failed))
