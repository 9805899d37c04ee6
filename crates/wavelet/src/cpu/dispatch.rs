//! One loop, compiled for several instruction sets, chosen at run time.

use std::sync::OnceLock;

/// An instruction set the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Isa {
    /// The compilation target's baseline.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

/// The best set of this processor. `WAVELET_ISA=portable|avx2|avx512` lowers the choice, for comparisons;
/// the crate `nn-ops` has NN_OPS_ISA.
pub(crate) fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        let wanted = match std::env::var("WAVELET_ISA").as_deref() {
            Ok("portable") => Isa::Portable,
            Ok("avx2") => Isa::Avx2,
            _ => Isa::Avx512,
        };
        wanted.min(detected())
    })
}

/// The best set this processor has.
pub(crate) fn detected() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if avx2 && avx512 {
            return Isa::Avx512;
        }
        if avx2 {
            return Isa::Avx2;
        }
    }
    Isa::Portable
}

/// Defines `fn name<...>(isa, args)` that runs `body` compiled for `isa`, or for the best the processor has if that is
/// less. `body` takes a const `FMA` first: whether multiply-add is one fast instruction.
macro_rules! dispatched {
    ($(#[$meta:meta])* $name:ident = $body:ident<$($g:ident: $bound:path),*>($($arg:ident: $ty:ty),* $(,)?)) => {
        $(#[$meta])*
        #[inline]
        pub(super) fn $name<$($g: $bound),*>(isa: $crate::cpu::dispatch::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::cpu::dispatch::{Isa, isa as best};
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn v4<$($g: $bound),*>($($arg: $ty),*) {
                    $body::<true, $($g),*>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn v3<$($g: $bound),*>($($arg: $ty),*) {
                    $body::<true, $($g),*>($($arg),*)
                }
                match isa.min(best()) {
                    // SAFETY: `best` is at most what was detected, and `v4` is compiled for that.
                    Isa::Avx512 => return unsafe { v4($($arg),*) },
                    // SAFETY: as above, for `v3`.
                    Isa::Avx2 => return unsafe { v3($($arg),*) },
                    Isa::Portable => {}
                }
            }
            let _ = isa;
            $body::<{ cfg!(any(target_feature = "fma", target_arch = "aarch64")) }, $($g),*>($($arg),*)
        }
    };
}

pub(super) use dispatched;
