//! A picture as bytes, wherever it lies.

use crate::error::{Error, Result};

/// An 8-bit RGB picture: rows of triples, from the top.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    width: usize,
    height: usize,
    rgb: &'a [u8],
}

impl<'a> Picture<'a> {
    /// `rgb` holds `height` rows of `width` triples.
    ///
    /// # Errors
    /// [`Error::Shape`] if it does not, or is empty.
    pub fn new(width: usize, height: usize, rgb: &'a [u8]) -> Result<Self> {
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if rgb.is_empty() || expected != Some(rgb.len()) {
            return Err(Error::Shape {
                what: "a picture".into(),
                found: rgb.len(),
                expected: format!("{width} x {height} x 3 were expected"),
            });
        }
        Ok(Self { width, height, rgb })
    }

    /// [height, width].
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Planes (3, height, width) of `scale * byte + shift`.
    pub(crate) fn planes(&self, scale: f32, shift: f32) -> Vec<f32> {
        let pixels = self.width * self.height;
        let mut out = vec![0f32; 3 * pixels];
        for (c, plane) in out.chunks_exact_mut(pixels).enumerate() {
            let bytes = self.rgb.iter().skip(c).step_by(3);
            for (v, &u) in plane.iter_mut().zip(bytes) {
                *v = f32::from(u) * scale + shift;
            }
        }
        out
    }
}
