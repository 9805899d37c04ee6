//! The number type that networks compute in, chosen once around them.
//!
//! Operators follow the type of their pictures: a network given bf16 computes in bf16, its f32 weights rounded where they
//! are used, its gradients f32 again where they reach the weights. So mixed precision is a matter of what goes in and
//! comes out, and [`computed`] is all there is to it.

use candle_core::{DType, Result, Tensor};
use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

/// A number type for the inside of networks. Sums are f32 in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits throughout.
    #[default]
    F32,
    /// 32 bits, of which CUDA's tensor cores use 19 in convolutions and matrix products; no other device knows it, and
    /// computes in f32.
    Tf32,
    /// bfloat16: the range of f32 with 8 bits of mantissa.
    Bf16,
    /// IEEE half: 11 bits of mantissa, values up to 65504. For sampling; gradients would vanish without scaling.
    F16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::Tf32, Self::Bf16, Self::F16];

    /// The type of a network's input.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 | Self::Tf32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        (Self::ALL.into_iter().find(|p| p.to_string() == s))
            .ok_or_else(|| format!("{s:?} is not one of f32, tf32, bf16, f16"))
    }
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// That of the innermost [`with`] on this thread, else f32.
pub fn current() -> Precision {
    CURRENT.get()
}

/// Runs `f` with every [`computed`] in it, and the backward passes in it, in `precision`. Whether candle's matrix products
/// use TF32 is a setting of the process: do not mix f32 and TF32 on several threads.
pub fn with<R>(precision: Precision, f: impl FnOnce() -> R) -> R {
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
            products(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(precision));
    products(precision);
    f()
}

/// Tells candle which matrix products to use.
fn products(precision: Precision) {
    #[cfg(feature = "cuda")]
    candle_core::cuda::set_gemm_reduced_precision_f32(precision == Precision::Tf32);
    let _ = precision;
}

/// A network's output for `x` in the type of [`current`]: `x` is rounded to it, the output comes back in the type of `x`.
///
/// # Errors
/// Those of `network`.
pub fn computed(x: &Tensor, network: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let inner = current().dtype();
    if inner == DType::F32 || x.dtype() != DType::F32 {
        return network(x);
    }
    network(&x.to_dtype(inner)?)?.to_dtype(x.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn names_are_read_and_written() {
        for p in Precision::ALL {
            assert_eq!(p.to_string().parse(), Ok(p));
        }
        assert!("fp16".parse::<Precision>().is_err() && "".parse::<Precision>().is_err());
    }

    #[test]
    fn the_inside_is_rounded_and_gradients_come_back_in_f32() -> Result<()> {
        let w = Var::new(&[1.0f32 / 3.0], &Device::Cpu)?;
        let x = Tensor::new(&[1.0f32], &Device::Cpu)?;
        let y = with(Precision::Bf16, || {
            computed(&x, |x| {
                assert_eq!(x.dtype(), DType::BF16);
                x * w.to_dtype(x.dtype())?
            })
        })?;
        assert_eq!(current(), Precision::F32);
        // A third in bf16.
        assert_eq!(y.to_vec1::<f32>()?, [0.333_984_38]);
        let grads = y.backward()?;
        let grad = grads.get(&w).expect("a gradient");
        assert_eq!(grad.dtype(), DType::F32);
        assert_eq!(grad.to_vec1::<f32>()?, [1.0]);
        computed(&x, |x| {
            assert_eq!(x.dtype(), DType::F32);
            Ok(x.clone())
        })?;
        Ok(())
    }
}
