//! Between the `f32` planes of networks and the bytes of pictures.

use super::{PictureError, RgbImage};

/// Pictures from `values`, shape (N, 3, `height`, `width`) in `[-1, 1]`, row-major; N follows from the length.
///
/// Values beyond the range are clamped; halves round away from zero (`v = 0` is byte 128). `first` is the index that
/// the first picture has in messages.
///
/// # Errors
/// [`PictureError::NotFinite`] on NaN or an infinity, [`PictureError::Values`] if the length fits no N.
pub fn from_values(
    values: &[f32],
    width: u32,
    height: u32,
    first: usize,
) -> Result<Vec<RgbImage>, PictureError> {
    let plane = width as usize * height as usize;
    if plane == 0 || !values.len().is_multiple_of(3 * plane) {
        return Err(PictureError::Values {
            values: values.len(),
            width,
            height,
        });
    }
    values
        .chunks_exact(3 * plane)
        .enumerate()
        .map(|(n, planes)| one(planes, width, height, first + n))
        .collect()
}

fn one(planes: &[f32], width: u32, height: u32, picture: usize) -> Result<RgbImage, PictureError> {
    if let Some(at) = planes.iter().position(|v| !v.is_finite()) {
        let (columns, plane) = (width as usize, width as usize * height as usize);
        let (row, column) = (at % plane / columns, at % columns);
        return Err(PictureError::NotFinite {
            picture,
            channel: at / plane,
            row,
            column,
            value: planes[at],
        });
    }
    let plane = planes.len() / 3;
    Ok(RgbImage::from_fn(width, height, |x, y| {
        let at = y as usize * width as usize + x as usize;
        image::Rgb([0, 1, 2].map(|c| byte(planes[c * plane + at])))
    }))
}

/// In f64, where `(v + 1) * 127.5` is exact: every byte comes back, and a half is a half.
fn byte(v: f32) -> u8 {
    ((f64::from(v) + 1.0) * 127.5).clamp(0.0, 255.0).round() as u8
}

/// The planes of one picture, shape (3, height, width), in `[-1, 1]`. The inverse of [`from_values`].
pub fn to_values(picture: &RgbImage) -> Vec<f32> {
    let mut values = vec![0.0; picture.as_raw().len()];
    fill(
        picture.as_raw(),
        picture.width() as usize,
        false,
        &mut values,
    );
    values
}

/// Writes interleaved `rgb` rows of `width` pixels as three planes in `[-1, 1]`; `flip` mirrors left and right.
pub(crate) fn fill(rgb: &[u8], width: usize, flip: bool, out: &mut [f32]) {
    let plane = rgb.len() / 3;
    for (y, row) in rgb.chunks_exact(3 * width.max(1)).enumerate() {
        for (x, pixel) in row.as_chunks::<3>().0.iter().enumerate() {
            let at = y * width + if flip { width - 1 - x } else { x };
            for (c, &u) in pixel.iter().enumerate() {
                out[c * plane + at] = f32::from(u) / 127.5 - 1.0;
            }
        }
    }
}
