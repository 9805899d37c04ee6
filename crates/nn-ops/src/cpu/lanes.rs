//! One vector register of f32, in the three widths the kernels are written for.

/// A register of `LEN` floats.
///
/// Every method is `inline(always)`: used inside a function with the matching `target_feature` it becomes one
/// instruction.
pub(crate) trait Lanes: Copy {
    const LEN: usize;
    /// # Safety
    /// The processor must have the instruction set.
    unsafe fn zero() -> Self;
    /// # Safety
    /// As [`Lanes::zero`]; `p` must be readable for `LEN` floats.
    unsafe fn load(p: *const f32) -> Self;
    /// # Safety
    /// As [`Lanes::zero`]; `p` must be writable for `LEN` floats.
    unsafe fn store(self, p: *mut f32);
    /// # Safety
    /// As [`Lanes::zero`].
    unsafe fn splat(x: f32) -> Self;
    /// `self + a * b`, fused where the instruction set has it.
    /// # Safety
    /// As [`Lanes::zero`].
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// `self + b`.
    /// # Safety
    /// As [`Lanes::zero`].
    unsafe fn add(self, b: Self) -> Self;
    /// `self - b`.
    /// # Safety
    /// As [`Lanes::zero`].
    unsafe fn sub(self, b: Self) -> Self;
    /// The sum of all lanes.
    /// # Safety
    /// As [`Lanes::zero`].
    unsafe fn sum(self) -> f32;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    // SAFETY (all methods below): the trait's contract, passed on to the intrinsic.
    impl Lanes for __m512 {
        const LEN: usize = 16;
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see above.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: see above.
            unsafe { _mm512_storeu_ps(p, self) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_add_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_sub_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: see above.
            unsafe { _mm512_reduce_add_ps(self) }
        }
    }

    // SAFETY (all methods below): the trait's contract, passed on to the intrinsic.
    impl Lanes for __m256 {
        const LEN: usize = 8;
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see above.
            unsafe { _mm256_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: see above.
            unsafe { _mm256_storeu_ps(p, self) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_add_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_sub_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            let mut lanes = [0f32; 8];
            // SAFETY: see above; the array has eight floats.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), self) };
            let four: [f32; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
            (four[0] + four[2]) + (four[1] + four[3])
        }
    }
}

/// Four floats without intrinsics; compilers turn them into one SSE or NEON register.
#[derive(Clone, Copy)]
pub(crate) struct Portable4([f32; 4]);

// SAFETY (all methods below): only plain pointer reads and writes within the trait's contract.
impl Lanes for Portable4 {
    const LEN: usize = 4;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: see above.
        Self(unsafe { p.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: see above.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 4])
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - b.0[i]))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        (self.0[0] + self.0[2]) + (self.0[1] + self.0[3])
    }
}

/// Defines a function that calls a kernel generic over [`Lanes`], and over one number where `<const K>` says so, with the
/// registers of the processor at hand. `(unsafe)` before the name hands the kernel's own contract on to the caller.
macro_rules! dispatch {
    ($vis:vis $(($unsafe:tt))? $name:ident $(<const $k:ident>)?, $kernel:ident, ($($arg:ident: $ty:ty),* $(,)?)) => {
        $vis $($unsafe)? fn $name $(<const $k: usize>)? ($($arg: $ty),*) {
            use $crate::cpu::lanes::Portable4;
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::x86_64::{__m256, __m512};
                use $crate::simd::{Isa, isa};
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512 $(<const $k: usize>)? ($($arg: $ty),*) {
                    // SAFETY: this function's features are those the kernel needs; its contract is the caller's.
                    unsafe { $kernel::<__m512 $(, $k)?>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<const $k: usize>)? ($($arg: $ty),*) {
                    // SAFETY: this function's features are those the kernel needs; its contract is the caller's.
                    unsafe { $kernel::<__m256 $(, $k)?>($($arg),*) }
                }
                match isa() {
                    // SAFETY: `isa` returns this variant only where the processor has the features.
                    Isa::Avx512 => return unsafe { avx512 $(::<$k>)? ($($arg),*) },
                    // SAFETY: as above.
                    Isa::Avx2 => return unsafe { avx2 $(::<$k>)? ($($arg),*) },
                    Isa::Portable => {}
                }
            }
            // SAFETY: the portable registers need no features; the contract is the caller's.
            unsafe { $kernel::<Portable4 $(, $k)?>($($arg),*) }
        }
    };
}
pub(crate) use dispatch;
