//! The transforms as operators with gradients: each is linear, and its gradient is its transpose.
//!
//! On the CPU they are custom operators on this crate's kernels. Elsewhere, and as the reference, they are products with
//! the operator's matrix, of candle's own operators, whose gradients candle knows.

use crate::cpu::{Frame, Real, filled, haar, separable};
use crate::matrix::Operator;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail,
};

/// A linear map from pictures to bands, or, transposed, the shape of one from bands to pictures.
#[derive(Debug, Clone)]
pub(crate) enum Map {
    /// Even sizes by the Haar wavelet; orthogonal, so that its transpose is its inverse.
    Haar(Frame),
    /// Two axes.
    Two {
        h: Operator,
        w: Operator,
        frame: Frame,
    },
    /// One: tensors are (outer, length, inner).
    One {
        axis: Operator,
        outer: usize,
        inner: usize,
    },
}

impl Map {
    fn transposed(&self) -> Self {
        match self {
            Map::Haar(frame) => Map::Haar(*frame),
            Map::Two { h, w, frame } => Map::Two {
                h: h.transposed(),
                w: w.transposed(),
                frame: *frame,
            },
            Map::One { axis, outer, inner } => Map::One {
                axis: axis.transposed(),
                outer: *outer,
                inner: *inner,
            },
        }
    }

    fn analyze<T: Real>(&self, x: &[T]) -> Vec<T> {
        match self {
            Map::Haar(frame) => {
                let fill = |out: &mut [_]| {
                    let (low, high) = out.split_at_mut(x.len() / 4);
                    haar::forward(x, low, high, frame);
                };
                // SAFETY: `forward` writes every value of both parts, which are the whole buffer.
                unsafe { filled(x.len(), fill) }
            }
            Map::Two { h, w, frame } => separable::analysis2(x, h.matrix(), w.matrix(), frame),
            Map::One { axis, outer, inner } => {
                separable::analysis1(x, axis.matrix(), *outer, *inner)
            }
        }
    }

    fn synthesize<T: Real>(&self, low: &[T], high: &[T]) -> Vec<T> {
        match self {
            Map::Haar(frame) => {
                let fill = |out: &mut [_]| haar::inverse(low, high, out, frame);
                // SAFETY: `inverse` writes every value of the buffer.
                unsafe { filled(4 * low.len(), fill) }
            }
            Map::Two { h, w, frame } => {
                separable::synthesis2(low, high, h.matrix(), w.matrix(), frame)
            }
            Map::One { axis, outer, inner } => {
                separable::synthesis1(low, high, axis.matrix(), *outer, *inner)
            }
        }
    }
}

/// Shapes of the bands and the picture, in the caller's dimensions.
#[derive(Debug, Clone)]
pub(crate) struct Shapes {
    pub low: Vec<usize>,
    pub high: Vec<usize>,
    pub picture: Vec<usize>,
}

/// Low and high bands of `x`.
pub(crate) fn split(
    x: &Tensor,
    map: &Map,
    shapes: &Shapes,
    fast: bool,
) -> Result<(Tensor, Tensor)> {
    if !(fast && x.device().is_cpu()) {
        return reference_split(x, map, shapes);
    }
    let op = Split {
        map: map.clone(),
        shapes: shapes.clone(),
    };
    parts(&x.contiguous()?.apply_op1(op)?, shapes)
}

/// The picture of these bands.
pub(crate) fn join(
    low: &Tensor,
    high: &Tensor,
    map: &Map,
    shapes: &Shapes,
    fast: bool,
) -> Result<Tensor> {
    if !(fast && low.device().is_cpu()) {
        return reference_join(low, high, map, shapes);
    }
    let op = Join {
        map: map.clone(),
        shapes: shapes.clone(),
    };
    low.contiguous()?.apply_op2(&high.contiguous()?, op)
}

/// Low and high bands, as they lie one after the other.
fn parts(flat: &Tensor, shapes: &Shapes) -> Result<(Tensor, Tensor)> {
    let len = shapes.low.iter().product::<usize>();
    let low = flat.narrow(0, 0, len)?.reshape(&*shapes.low)?;
    let rest = flat.elem_count() - len;
    Ok((low, flat.narrow(0, len, rest)?.reshape(&*shapes.high)?))
}

struct Split {
    map: Map,
    shapes: Shapes,
}

struct Join {
    map: Map,
    shapes: Shapes,
}

impl CustomOp1 for Split {
    fn name(&self) -> &'static str {
        "wavelet-analysis"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = match s {
            CpuStorage::F32(_) => CpuStorage::F32(self.map.analyze(slice(s, l)?)),
            CpuStorage::F64(_) => CpuStorage::F64(self.map.analyze(slice(s, l)?)),
            _ => bail!("wavelet-analysis: neither f32 nor f64"),
        };
        let shapes = &self.shapes;
        let len = [&shapes.low, &shapes.high].map(|s| s.iter().product::<usize>());
        Ok((out, Shape::from(len[0] + len[1])))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (low, high) = parts(grad, &self.shapes)?;
        let map = self.map.transposed();
        join(&low, &high, &map, &self.shapes, true).map(Some)
    }
}

impl CustomOp2 for Join {
    fn name(&self) -> &'static str {
        "wavelet-synthesis"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let map = &self.map;
        let out = match s1 {
            CpuStorage::F32(_) => CpuStorage::F32(map.synthesize(slice(s1, l1)?, slice(s2, l2)?)),
            CpuStorage::F64(_) => CpuStorage::F64(map.synthesize(slice(s1, l1)?, slice(s2, l2)?)),
            _ => bail!("wavelet-synthesis: neither f32 nor f64"),
        };
        Ok((out, Shape::from(self.shapes.picture.as_slice())))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (low, high) = split(grad, &self.map.transposed(), &self.shapes, true)?;
        Ok((Some(low), Some(high)))
    }
}

/// The values of a contiguous storage.
fn slice<'a, T: Real>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [T]> {
    match (T::values(s), l.contiguous_offsets()) {
        (Some(v), Some((from, to))) => Ok(&v[from..to]),
        _ => bail!("wavelet: needs contiguous tensors of one type, got {l:?}"),
    }
}

/// The transpose of an operator's matrix, (cols, rows).
fn dense(op: &Operator, dtype: DType, device: &Device) -> Result<Tensor> {
    let m = op.matrix();
    Tensor::from_vec(m.dense_transposed(), (m.cols, m.rows()), &Device::Cpu)?
        .to_dtype(dtype)?
        .to_device(device)
}

/// (p, a, b) with its middle axis multiplied: (p, rows, b).
fn along_middle(x: &Tensor, op: &Operator) -> Result<Tensor> {
    along_last(&x.transpose(1, 2)?, op)?.transpose(1, 2)
}

/// (p, a, b) with its last axis multiplied: (p, a, rows).
fn along_last(x: &Tensor, op: &Operator) -> Result<Tensor> {
    let (p, a, b) = x.dims3()?;
    let y = x
        .reshape((p * a, b))?
        .matmul(&dense(op, x.dtype(), x.device())?)?;
    y.reshape((p, a, op.matrix().rows()))
}

/// The operators of the Haar transform, for where there is no kernel.
fn operators(frame: &Frame) -> (Operator, Operator) {
    let haar = crate::Wavelet::haar();
    let [h, w] = frame
        .size
        .map(|n| crate::operator::analysis(&haar, crate::Mode::Periodization, n));
    (h, w)
}

fn reference_split(x: &Tensor, map: &Map, shapes: &Shapes) -> Result<(Tensor, Tensor)> {
    let (h, w, frame) = match map {
        Map::One { axis, outer, inner } => {
            let (n, m) = (axis.matrix().cols, axis.matrix().rows() / 2);
            let y = along_middle(&x.reshape((*outer, n, *inner))?, axis)?;
            let low = y.narrow(1, 0, m)?.reshape(&*shapes.low)?;
            return Ok((low, y.narrow(1, m, m)?.reshape(&*shapes.high)?));
        }
        Map::Two { h, w, frame } => (h.clone(), w.clone(), frame),
        Map::Haar(frame) => {
            let (h, w) = operators(frame);
            (h, w, frame)
        }
    };
    let ([rows, cols], [mh, mw]) = (frame.size, frame.band);
    let x = x.reshape((frame.planes(), rows, cols))?;
    let y = along_middle(&along_last(&x, &w)?, &h)?;
    let quarter = |top: usize, left: usize| -> Result<Tensor> {
        let y = y.narrow(1, top * mh, mh)?.narrow(2, left * mw, mw)?;
        y.reshape((frame.outer, frame.channels, mh, mw))
    };
    let high = Tensor::stack(&[quarter(1, 0)?, quarter(0, 1)?, quarter(1, 1)?], 1)?;
    Ok((
        quarter(0, 0)?.reshape(&*shapes.low)?,
        high.reshape(&*shapes.high)?,
    ))
}

fn reference_join(low: &Tensor, high: &Tensor, map: &Map, shapes: &Shapes) -> Result<Tensor> {
    let (h, w, frame) = match map {
        Map::One { axis, outer, inner } => {
            let band = (*outer, axis.matrix().cols / 2, *inner);
            let both = Tensor::cat(&[low.reshape(band)?, high.reshape(band)?], 1)?;
            return along_middle(&both, axis)?.reshape(&*shapes.picture);
        }
        Map::Two { h, w, frame } => (h.clone(), w.clone(), frame),
        Map::Haar(frame) => {
            let (h, w) = operators(frame);
            (h.transposed(), w.transposed(), frame)
        }
    };
    let [mh, mw] = frame.band;
    let high = high.reshape((frame.outer, 3, frame.channels, mh, mw))?;
    let plane = |t: Tensor| t.reshape((frame.planes(), mh, mw));
    let high = |which: usize| plane(high.narrow(1, which, 1)?.contiguous()?);
    let upper = Tensor::cat(&[plane(low.clone())?, high(1)?], 2)?;
    let lower = Tensor::cat(&[high(0)?, high(2)?], 2)?;
    let bands = Tensor::cat(&[upper, lower], 1)?;
    along_last(&along_middle(&bands, &h)?, &w)?.reshape(&*shapes.picture)
}
