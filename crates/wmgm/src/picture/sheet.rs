//! Many pictures on one sheet.

use image::{GenericImage, Rgb};

use super::{PictureError, RgbImage};

/// How a [`sheet`] is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Pictures in a row; by default what comes nearest to a square ([`Layout::columns_for`]).
    pub columns: Option<usize>,
    /// Pixels between pictures and around the sheet.
    pub gap: u32,
    /// Colour of the gaps and of places left over.
    pub background: [u8; 3],
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            columns: None,
            gap: 2,
            background: [255; 3],
        }
    }
}

impl Layout {
    /// The columns a sheet of `count` pictures gets: as asked for, else the near-square number, preferring one that
    /// leaves no place empty (16: 4, 8: 4, 6: 3, 7: 3).
    pub fn columns_for(&self, count: usize) -> usize {
        let square = (1..=count.max(1)).find(|c| c * c >= count).unwrap_or(1);
        let full = (square..=square + (square / 4).max(1)).find(|c| count.is_multiple_of(*c));
        self.columns
            .unwrap_or(full.unwrap_or(square))
            .clamp(1, count.max(1))
    }
}

/// The most pixels of a sheet.
pub const MAX_PIXELS: u64 = 1 << 30;

/// One picture of all `pictures`, row by row. They must have one size.
///
/// # Errors
/// [`PictureError::Empty`] without pictures, [`PictureError::Size`] naming the first of another size,
/// [`PictureError::TooLarge`] above 2^16 pixels a side or 2^30 in all.
pub fn sheet(pictures: &[RgbImage], layout: Layout) -> Result<RgbImage, PictureError> {
    let (w, h) = pictures.first().ok_or(PictureError::Empty)?.dimensions();
    if let Some((picture, other)) = pictures
        .iter()
        .enumerate()
        .find(|(_, p)| p.dimensions() != (w, h))
    {
        return Err(PictureError::Size {
            picture,
            found: other.dimensions(),
            expected: (w, h),
        });
    }
    let columns = layout.columns_for(pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let gap = u64::from(layout.gap);
    let side = |n: usize, length: u32| {
        gap.saturating_add((n as u64).saturating_mul(u64::from(length) + gap))
    };
    let (width, height) = (side(columns, w), side(rows, h));
    if width.max(height) > 1 << 16 || width.saturating_mul(height) > MAX_PIXELS {
        return Err(PictureError::TooLarge { width, height });
    }
    let mut sheet = RgbImage::from_pixel(width as u32, height as u32, Rgb(layout.background));
    for (i, picture) in pictures.iter().enumerate() {
        let (column, row) = ((i % columns) as u32, (i / columns) as u32);
        let (x, y) = (
            layout.gap + column * (w + layout.gap),
            layout.gap + row * (h + layout.gap),
        );
        sheet
            .copy_from(picture, x, y)
            .map_err(|_| PictureError::TooLarge { width, height })?;
    }
    Ok(sheet)
}
