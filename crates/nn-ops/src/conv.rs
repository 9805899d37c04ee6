//! 2-D convolution with gradients of input, weights and bias.
//!
//! On the CPU the common case (3 x 3, stride 1, "same" padding, one group) runs by Winograd's algorithm, or by a direct
//! kernel where channels are few or the path is [`Path::Exact`]; a depthwise one (every channel by itself) adds up shifted rows;
//! all others are a matrix product per picture. On CUDA devices cuDNN does it (feature `cudnn`), both ways. Elsewhere, and on
//! request ([`crate::path`]), candle's operator.

use crate::cpu::blocked::BLOCK;
use crate::cpu::epilogue::Epilogue;
use crate::cpu::im2col::{Geometry, bias_gradient};
use crate::cpu::padded::Plan;
use crate::cpu::planes::View;
use crate::cpu::shared::aligned;
use crate::cpu::winograd::{self, Source, Weights};
use crate::cpu::{depthwise, direct};
use crate::kept::{Kept, Rounded};
use crate::path::{self, Path};
use crate::plan::trace::{self, Op};
use crate::storage::{cpu_slice, with_slice};
use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, DType, Layout, Module, Result, Shape, Tensor, bail,
};
use candle_nn::VarBuilder;

/// Stride, zero padding and groups of a convolution; the same along both axes, as in `torch.nn.Conv2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Step between output pixels; at least 1.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Channels are split into this many independent convolutions.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self {
            stride: 1,
            padding: 0,
            groups: 1,
        }
    }
}

impl Conv2dConfig {
    /// Stride 1 and the padding that keeps the size, for an odd kernel.
    pub fn same(kernel: usize) -> Self {
        Self {
            padding: kernel / 2,
            ..Self::default()
        }
    }
}

/// `y = x * w + b`: x (N, Ci, H, W), w (Co, Ci / groups, Kh, Kw), b (Co); y (N, Co, H', W') with
/// H' = (H + 2 padding - Kh) / stride + 1.
///
/// Weights and bias are rounded to the type of x, so that f32 weights train a network that computes in bf16; sums are f32.
///
/// # Errors
/// Shapes that do not fit each other, or a kernel larger than the padded picture.
pub fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, cfg: Conv2dConfig) -> Result<Tensor> {
    apply(x, w, b, cfg, None)
}

/// The same with transformed weights, where `w` is always the same.
fn apply(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    cfg: Conv2dConfig,
    kept: Option<Kept>,
) -> Result<Tensor> {
    let constant = || !w.track_op() && !b.is_some_and(Tensor::track_op);
    let op = || {
        constant().then(|| Op::Conv {
            w: w.clone(),
            b: b.cloned(),
            cfg,
        })
    };
    trace::step(&[x], op, || evaluate(x, w, b, cfg, kept))
}

fn evaluate(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    cfg: Conv2dConfig,
    kept: Option<Kept>,
) -> Result<Tensor> {
    let geometry = geometry(x.shape(), w.shape(), b.map(Tensor::shape), cfg)?;
    let w = &w.to_dtype(x.dtype())?;
    let b = b.map(|b| b.to_dtype(x.dtype())).transpose()?;
    if !kernels(x) {
        if !path::is_half(x) || x.device().is_cuda() {
            return reference(x, w, b.as_ref(), &geometry);
        }
        let up = |t: &Tensor| t.to_dtype(DType::F32);
        let b = b.as_ref().map(up).transpose()?;
        return apply(&up(x)?, &up(w)?, b.as_ref(), cfg, None)?.to_dtype(x.dtype());
    }
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    let op = Convolution { cfg, kept };
    match b {
        Some(b) => x.apply_op3(&w, &b.contiguous()?, op),
        None => x.apply_op2(&w, op),
    }
}

/// Whether [`Op`] serves.
fn kernels(x: &Tensor) -> bool {
    path::cpu_kernels(x) || cfg!(feature = "cudnn") && path::cuda_kernels(x)
}

/// candle's operator. With a stride its backward fails where the two axes leave different remainders, so it sees just
/// the lines and columns that are used.
fn reference(x: &Tensor, w: &Tensor, b: Option<&Tensor>, g: &Geometry) -> Result<Tensor> {
    let y = if g.stride > 1 {
        let used = |out: usize, k: usize| (out - 1) * g.stride + k;
        let x = x
            .pad_with_zeros(2, g.padding, g.padding)?
            .pad_with_zeros(3, g.padding, g.padding)?
            .narrow(2, 0, used(g.oh, g.kh))?
            .narrow(3, 0, used(g.ow, g.kw))?;
        x.conv2d(w, 0, g.stride, 1, g.groups)?
    } else {
        x.conv2d(w, g.padding, 1, 1, g.groups)?
    };
    match b {
        Some(b) => y.broadcast_add(&b.reshape((1, g.co, 1, 1))?),
        None => Ok(y),
    }
}

fn geometry(x: &Shape, w: &Shape, b: Option<&Shape>, cfg: Conv2dConfig) -> Result<Geometry> {
    let ([n, ci, h, width], [co, ci_g, kh, kw]) = (x.dims(), w.dims()) else {
        bail!("conv2d: expected x (N, Ci, H, W) and w (Co, Ci/groups, Kh, Kw), got {x:?} and {w:?}")
    };
    let (stride, padding, groups) = (cfg.stride, cfg.padding, cfg.groups);
    if groups == 0 || stride == 0 || *ci != ci_g * groups || co % groups != 0 {
        bail!(
            "conv2d: x {x:?} does not fit w {w:?} with groups {groups}, stride {stride}: the input needs {} channels",
            ci_g * groups
        )
    }
    if let Some(b) = b
        && b.dims() != [*co]
    {
        bail!("conv2d: the bias has shape {b:?}, the weight {w:?} needs ({co},)")
    }
    if [*ci, *h, *width, *co].contains(&0) {
        bail!("conv2d: x {x:?} and w {w:?}: there must be channels and pixels")
    }
    if h + 2 * padding < *kh || width + 2 * padding < *kw || kh * kw == 0 {
        bail!(
            "conv2d: the kernel {kh}x{kw} is larger than the picture {h}x{width} with padding {padding}"
        )
    }
    Ok(Geometry {
        n: *n,
        ci: *ci,
        h: *h,
        w: *width,
        co: *co,
        kh: *kh,
        kw: *kw,
        stride,
        padding,
        groups,
        oh: (h + 2 * padding - kh) / stride + 1,
        ow: (width + 2 * padding - kw) / stride + 1,
    })
}

/// The kernel that serves a geometry. Depends on nothing but the shapes of one picture and the path.
#[derive(PartialEq)]
enum Kernel {
    Winograd,
    Direct3,
    Depthwise,
    Gemm,
}

impl Kernel {
    fn of(g: &Geometry) -> Self {
        let same = g.kh == 3 && g.kw == 3 && g.stride == 1 && g.padding == 1 && g.groups == 1;
        match same {
            // Fewer channels than half a block waste more than the tiles save.
            true if g.ci.min(g.co) >= 8 && path::current() != Path::Exact => Self::Winograd,
            true => Self::Direct3,
            false if g.groups > 1 && g.groups == g.ci && g.ci == g.co => Self::Depthwise,
            false => Self::Gemm,
        }
    }
}

/// Sizes of the convolution, or (`turned`) of the one that gives the gradient of its input.
fn sizes(g: &Geometry, turned: bool) -> winograd::Sizes {
    let (ci, co) = if turned { (g.co, g.ci) } else { (g.ci, g.co) };
    winograd::Sizes {
        n: g.n,
        ci,
        co,
        h: g.h,
        w: g.w,
    }
}

fn forward(g: &Geometry, x: &[f32], w: &[f32], b: Option<&[f32]>, kept: Option<&Kept>) -> Vec<f32> {
    match Kernel::of(g) {
        Kernel::Winograd => {
            let s = sizes(g, false);
            // Only what the second cache holds is worth keeping: the rest is transformed as it comes from memory.
            match kept.filter(|_| s.light()).map(|kept| kept.kernels(w, &s)) {
                Some(kernels) => through_tiles(&s, x, Weights::Kept(&kernels), b),
                None => {
                    let w = Source::Raw { w, turned: false };
                    through_tiles(&s, x, Weights::Plain(w), b)
                }
            }
        }
        Kernel::Direct3 => {
            let plan = Plan::new(g.n, g.h, g.w, 3);
            let packed = direct::pack_weights(w, g.co, g.ci, 9, false);
            direct::forward::<3>(&plan, &plan.pad(x, g.ci, 1), g.ci, &packed, g.co, b)
        }
        Kernel::Depthwise => depthwise::forward(g, x, w, b),
        Kernel::Gemm => g.forward(x, w, b),
    }
}

/// Winograd's algorithm on x (n, ci, h, w), through the layout its kernels read.
fn through_tiles(
    s: &winograd::Sizes,
    x: &[f32],
    weights: Weights<'_>,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let (input, output) = (s.input(), s.output());
    let (mut x, mut y) = (input.pack(x), aligned(output.len()));
    let bias = bias.map(|b| {
        let mut all = b.to_vec();
        all.resize(b.len().next_multiple_of(BLOCK), 0.0);
        all
    });
    // SAFETY: both buffers are this function's own.
    unsafe {
        let (x, y) = (View::of(&mut x, &input), View::of(&mut y, &output));
        winograd::forward(s, x, weights, y, &Epilogue::bias(bias.as_deref()));
    }
    output.unpack(&y)
}

/// Which gradients are wanted: those of tensors that depend on a variable.
#[derive(Clone, Copy)]
struct Wanted {
    x: bool,
    w: bool,
    b: bool,
}

/// Gradients of input, weights and bias, those wanted.
fn backward(
    g: &Geometry,
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    wanted: Wanted,
) -> [Option<Vec<f32>>; 3] {
    let db = wanted.b.then(|| bias_gradient(dy, g.co, g.oh * g.ow));
    match Kernel::of(g) {
        Kernel::Winograd => {
            let (s, turned) = (sizes(g, false), sizes(g, true));
            let dx = wanted.x.then(|| {
                let w = Source::Raw { w, turned: true };
                through_tiles(&turned, dy, Weights::Plain(w), None)
            });
            let dw = wanted.w.then(|| {
                winograd::weight_gradient(&s, &mut s.input().pack(x), &s.output().pack(dy))
            });
            [dx, dw, db]
        }
        Kernel::Direct3 => {
            let plan = Plan::new(g.n, g.h, g.w, 3);
            let dx = wanted.x.then(|| {
                let turned = direct::pack_weights(w, g.co, g.ci, 9, true);
                direct::forward::<3>(&plan, &plan.pad(dy, g.co, 1), g.co, &turned, g.ci, None)
            });
            let dw = wanted.w.then(|| {
                // Its register tile holds eight output channels.
                if g.co < 8 {
                    return g.weight_gradient(x, dy);
                }
                let (x, dy) = (plan.pad(x, g.ci, 1), plan.pad(dy, g.co, 0));
                direct::weight_gradient::<3>(&plan, &x, g.ci, &dy, g.co)
            });
            [dx, dw, db]
        }
        Kernel::Depthwise | Kernel::Gemm => {
            let dx = wanted.x.then(|| g.input_gradient(dy, w));
            [dx, wanted.w.then(|| g.weight_gradient(x, dy)), db]
        }
    }
}

struct Convolution {
    cfg: Conv2dConfig,
    kept: Option<Kept>,
}

impl Convolution {
    fn fwd(
        &self,
        x: (&CpuStorage, &Layout),
        w: (&CpuStorage, &Layout),
        b: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let g = geometry(x.1.shape(), w.1.shape(), b.map(|b| b.1.shape()), self.cfg)?;
        let bias = b.map(|(s, l)| cpu_slice("conv2d", s, l)).transpose()?;
        let y = forward(
            &g,
            cpu_slice("conv2d", x.0, x.1)?,
            cpu_slice("conv2d", w.0, w.1)?,
            bias,
            self.kept.as_ref(),
        );
        Ok((CpuStorage::F32(y), (g.n, g.co, g.oh, g.ow).into()))
    }

    fn gradients(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: Option<&Tensor>,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let g = geometry(x.shape(), w.shape(), b.map(Tensor::shape), self.cfg)?;
        let wanted = Wanted {
            x: x.track_op(),
            w: w.track_op(),
            b: b.is_some_and(Tensor::track_op),
        };
        let dy = dy.contiguous()?;
        #[cfg(feature = "cudnn")]
        if x.device().is_cuda() {
            use crate::cuda::conv;
            let dx = wanted.x.then(|| conv::input_gradient(&g, w, &dy));
            let dw = wanted.w.then(|| conv::weight_gradient(&g, x, &dy));
            let db = wanted.b.then(|| conv::bias_gradient(&g, &dy));
            return Ok([dx.transpose()?, dw.transpose()?, db.transpose()?]);
        }
        let [dx, dw, db] = with_slice(x, |x| {
            with_slice(w, |w| {
                with_slice(&dy, |dy| Ok(backward(&g, x, w, dy, wanted)))
            })
        })?;
        let tensor = |data: Option<Vec<f32>>, shape: &Shape| {
            data.map(|d| Tensor::from_vec(d, shape, x.device()))
                .transpose()
        };
        let co = Shape::from(g.co);
        Ok([
            tensor(dx, x.shape())?,
            tensor(dw, w.shape())?,
            tensor(db, &co)?,
        ])
    }
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.fwd((s1, l1), (s2, l2), None)
    }
    #[cfg(feature = "cudnn")]
    fn cuda_fwd(
        &self,
        s1: &candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let g = geometry(l1.shape(), l2.shape(), None, self.cfg)?;
        crate::cuda::conv::forward(&g, (s1, l1), (s2, l2), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = self.gradients(x, w, None, dy)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.fwd((s1, l1), (s2, l2), Some((s3, l3)))
    }
    #[cfg(feature = "cudnn")]
    fn cuda_fwd(
        &self,
        s1: &candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
        s3: &candle_core::CudaStorage,
        l3: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let g = geometry(l1.shape(), l2.shape(), Some(l3.shape()), self.cfg)?;
        crate::cuda::conv::forward(&g, (s1, l1), (s2, l2), Some((s3, l3)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = self.gradients(x, w, Some(b), dy)?;
        Ok((dx, dw, db))
    }
}

/// A convolution layer: parameters `weight` (Co, Ci / groups, K, K) and `bias` (Co).
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    cfg: Conv2dConfig,
    kept: Kept,
    rounded: Rounded,
}

impl Conv2d {
    /// Reads (or, in training, creates with PyTorch's default initialisation) a layer's parameters.
    pub fn new(
        ci: usize,
        co: usize,
        kernel: usize,
        cfg: Conv2dConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        Self::with_gain(ci, co, kernel, cfg, 1.0, vb)
    }

    /// As [`Conv2d::new`], the initial weights and bias multiplied by `gain`; 0 makes a layer that starts silent.
    pub fn with_gain(
        ci: usize,
        co: usize,
        kernel: usize,
        cfg: Conv2dConfig,
        gain: f64,
        vb: VarBuilder,
    ) -> Result<Self> {
        if cfg.groups == 0 || !ci.is_multiple_of(cfg.groups) {
            bail!(
                "Conv2d: {ci} input channels cannot be split into {} groups",
                cfg.groups
            )
        }
        let fan_in = ci / cfg.groups * kernel * kernel;
        // torch: kaiming_uniform(a = sqrt(5)), that is U(-b, b) with b = 1 / sqrt(fan_in), for both.
        let bound = gain / (fan_in.max(1) as f64).sqrt();
        let init = candle_nn::Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let init = if gain == 0.0 {
            candle_nn::Init::Const(0.0)
        } else {
            init
        };
        Ok(Self {
            weight: vb.get_with_hints((co, ci / cfg.groups, kernel, kernel), "weight", init)?,
            bias: Some(vb.get_with_hints(co, "bias", init)?),
            cfg,
            kept: Kept::default(),
            rounded: Rounded::default(),
        })
    }

    /// A layer from tensors at hand.
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>, cfg: Conv2dConfig) -> Self {
        Self {
            weight,
            bias,
            cfg,
            kept: Kept::default(),
            rounded: Rounded::default(),
        }
    }

    /// (Co, Ci / groups, K, K).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// (Co), if the layer has one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Stride, padding, groups.
    pub fn config(&self) -> Conv2dConfig {
        self.cfg
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // Weights in training change under the same layer.
        let fixed = !self.weight.track_op();
        let kept = fixed.then(|| self.kept.clone());
        if fixed && x.dtype() != self.weight.dtype() {
            let [w, b] = (self.rounded).get(x.dtype(), [Some(&self.weight), self.bias.as_ref()])?;
            let w = w.as_ref().unwrap_or(&self.weight);
            return apply(x, w, b.as_ref(), self.cfg, kept);
        }
        apply(x, &self.weight, self.bias.as_ref(), self.cfg, kept)
    }
}
