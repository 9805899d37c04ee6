//! The transforms of F(4 x 4, 3 x 3) with the interpolation points 0, 1, -1, 2, -2 and infinity: one pixel of 16 channels
//! per step, whatever the width of a register.

use crate::cpu::blocked::BLOCK;
use crate::cpu::lanes::Lanes;

/// B^T d.
///
/// # Safety
/// The processor must have V's instruction set; so for all below.
#[inline(always)]
unsafe fn input<V: Lanes>(d: [V; 6]) -> [V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let (four, minus_four) = (V::splat(4.0), V::splat(-4.0));
        let a = d[4].mul_add(minus_four, d[2]);
        let b = d[3].mul_add(minus_four, d[1]);
        let c = d[4].sub(d[2]);
        let e = d[3].sub(d[1]);
        let twice = e.add(e);
        [
            c.mul_add(four, d[0].sub(d[2])),
            a.add(b),
            a.sub(b),
            c.add(twice),
            c.sub(twice),
            d[5].sub(d[3]).mul_add(minus_four, e),
        ]
    }
}

/// A^T m.
#[inline(always)]
unsafe fn output<V: Lanes>(m: [V; 6]) -> [V; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (s1, d1) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (s2, d2) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(s1).add(s2),
            d1.mul_add(V::splat(2.0), d2),
            s1.mul_add(V::splat(4.0), s2),
            d1.add(m[5]).mul_add(V::splat(8.0), d2),
        ]
    }
}

/// A y, the transpose of [`output`].
#[inline(always)]
unsafe fn output_transposed<V: Lanes>(y: [V; 4]) -> [V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let (even, odd) = (y[0].add(y[2]), y[1].add(y[3]));
        let far = y[0].mul_add(V::splat(4.0), y[2]);
        let twist = V::zero().mul_add(V::splat(2.0), y[1].mul_add(V::splat(4.0), y[3]));
        [
            y[0],
            even.add(odd),
            even.sub(odd),
            far.add(twist),
            far.sub(twist),
            y[3],
        ]
    }
}

/// G w.
#[inline(always)]
unsafe fn kernel<V: Lanes>(w: [V; 3]) -> [V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = |k: f32, v: V| V::zero().mul_add(V::splat(k), v);
        let even = scale(-1.0 / 6.0, w[0].add(w[2]));
        let odd = scale(-1.0 / 6.0, w[1]);
        let far = scale(1.0 / 24.0, w[0]).mul_add(V::splat(1.0 / 6.0), w[2]);
        let twist = scale(1.0 / 12.0, w[1]);
        [
            scale(0.25, w[0]),
            even.add(odd),
            even.sub(odd),
            far.add(twist),
            far.sub(twist),
            w[2],
        ]
    }
}

/// G^T u, the transpose of [`kernel`].
#[inline(always)]
unsafe fn kernel_transposed<V: Lanes>(u: [V; 6]) -> [V; 3] {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = |k: f32, v: V| V::zero().mul_add(V::splat(k), v);
        let (s1, d1) = (u[1].add(u[2]), u[1].sub(u[2]));
        let (s2, d2) = (u[3].add(u[4]), u[3].sub(u[4]));
        let near = scale(-1.0 / 6.0, s1);
        [
            near.mul_add(V::splat(0.25), u[0])
                .mul_add(V::splat(1.0 / 24.0), s2),
            scale(-1.0 / 6.0, d1).mul_add(V::splat(1.0 / 12.0), d2),
            near.mul_add(V::splat(1.0 / 6.0), s2).add(u[5]),
        ]
    }
}

/// Applies `f` to the columns, then to the rows of a square, for every register of a pixel.
macro_rules! both_ways {
    ($name:ident, $f:ident, $from:literal, $to:literal, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Pixel (i, j) is read at `src + i * line + j * pixel` and written at `dst + i * to_line + j * to_pixel`.
        ///
        /// # Safety
        /// The 16 floats at each of these places must be readable or writable, and the processor must have V's
        /// instruction set.
        #[inline(always)]
        pub(super) unsafe fn $name<V: Lanes>(
            src: *const f32,
            (line, pixel): (usize, usize),
            dst: *mut f32,
            (to_line, to_pixel): (usize, usize),
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                for lane in (0..BLOCK).step_by(V::LEN) {
                    let (src, dst) = (src.add(lane), dst.add(lane));
                    let mut half = [[V::zero(); $from]; $to];
                    for j in 0..$from {
                        let column: [V; $from] =
                            std::array::from_fn(|i| V::load(src.add(i * line + j * pixel)));
                        for (row, v) in half.iter_mut().zip($f(column)) {
                            row[j] = v;
                        }
                    }
                    for (i, row) in half.into_iter().enumerate() {
                        for (j, v) in $f(row).into_iter().enumerate() {
                            v.store(dst.add(i * to_line + j * to_pixel));
                        }
                    }
                }
            }
        }
    };
}

both_ways!(
    input_tile,
    input,
    6,
    6,
    "B^T d B: a 6 x 6 patch of the input."
);
both_ways!(
    output_tile,
    output,
    6,
    4,
    "A^T m A: the 4 x 4 pixels of the output."
);
both_ways!(
    gradient_tile,
    output_transposed,
    4,
    6,
    "A y A^T: 4 x 4 pixels of the output's gradient."
);
both_ways!(kernel_tile, kernel, 3, 6, "G w G^T: a 3 x 3 kernel.");
both_ways!(
    kernel_gradient_tile,
    kernel_transposed,
    6,
    3,
    "G^T u G: the gradient of a 3 x 3 kernel."
);
