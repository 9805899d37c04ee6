//! Which vector instructions this processor has, and loops compiled once for each of them.

use crate::cpu::lanes::{Lanes, dispatch};
use std::sync::OnceLock;

/// An instruction set the kernels are compiled for.
///
/// Results are reproducible to the bit within one set; between sets they agree within rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// No assumption beyond the compilation target.
    Portable,
    /// AVX2 and FMA (x86-64-v3).
    Avx2,
    /// AVX-512 F, VL, DQ and BW (x86-64-v4).
    Avx512,
}

/// The best instruction set of this processor.
///
/// `NN_OPS_ISA=portable|avx2|avx512` lowers the choice, for tests and comparisons; it never raises it above what
/// the processor has. The crate `wavelet` has a variable of its own, WAVELET_ISA: pictures of one set need both.
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        let wanted = match std::env::var("NN_OPS_ISA").as_deref() {
            Ok("portable") => Isa::Portable,
            Ok("avx2") => Isa::Avx2,
            _ => Isa::Avx512,
        };
        wanted.min(detected())
    })
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw");
    match (avx512 && avx2, avx2) {
        (true, _) => Isa::Avx512,
        (_, true) => Isa::Avx2,
        _ => Isa::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Isa {
    Isa::Portable
}

/// Defines a function whose body is compiled for every [`Isa`] and dispatched at run time, so that plain loops
/// over slices vectorise with what the processor has.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn generic($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { generic($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { generic($($arg),*) }
                match $crate::simd::isa() {
                    // SAFETY: `isa` returns this variant only where the processor has the features.
                    $crate::simd::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Isa::Portable => {}
                }
            }
            generic($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// The most independent multiply-adds in flight: enough chains to hide their latency.
const CHAINS: usize = 12;

#[inline(always)]
unsafe fn fma_with<V: Lanes>(rounds: usize, done: &mut usize) {
    // SAFETY: the caller has the instruction set; nothing but registers and one local array is used.
    unsafe {
        let (scale, step) = (
            V::splat(std::hint::black_box(0.5)),
            V::splat(std::hint::black_box(0.25)),
        );
        let mut sums = [V::zero(); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // step + sum * scale: stays finite for ever.
                *sum = step.mul_add(*sum, scale);
            }
        }
        let total = sums.into_iter().fold(V::zero(), |a, b| a.add(b));
        std::hint::black_box(total.sum());
        *done = CHAINS * V::LEN;
    }
}
dispatch!(fma_kernel, fma_with, (rounds: usize, done: &mut usize));

/// Runs a loop of nothing but vector multiply-adds and returns how many of them, of single floats, a round has: the
/// processor's limit, for benchmarks to measure against.
pub fn fma_rounds(rounds: usize) -> usize {
    let mut done = 0;
    fma_kernel(rounds, &mut done);
    done
}

/// `exp(x)` by a polynomial that vectorises: relative error below 2e-7 for |x| < 87, saturating outside.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first exact in few bits (Cody and Waite).
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer without a call.
    const ROUND: f32 = 12_582_912.0;
    let n = (x * LOG2_E + ROUND) - ROUND;
    let r = (x - n * LN2_HI) - n * LN2_LO;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let e = (p * r * r + r) + 1.0;
    // n + ROUND holds n in its low mantissa bits: shifted into the exponent they scale e by 2^n.
    // (No float-to-integer conversion, so NaN needs no care.)
    let bits = (n + (ROUND + 127.0)).to_bits() << 23;
    e * f32::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_libm_everywhere() {
        let mut worst = 0f64;
        let mut x = -86.9f32;
        while x < 87.9 {
            let want = (x as f64).exp();
            worst = worst.max(((exp(x) as f64 - want) / want).abs());
            x += 0.000_7;
        }
        assert!(worst < 2e-7, "worst relative error {worst:e}");
        assert!(exp(f32::INFINITY).is_finite() && exp(-1e30) < 1e-37);
    }

    #[test]
    fn nan_stays_nan() {
        assert!(exp(f32::NAN).is_nan());
    }
}
