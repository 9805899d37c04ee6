//! Overlapping tiles along an axis, and weights that blend what is made of them.

/// One tile along an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tile {
    /// Its first position.
    pub start: usize,
    /// What each of its positions counts; those of all tiles add up to 1 everywhere.
    pub weights: Vec<f32>,
}

/// Tiles of at most `side` over `length` positions, both multiples of `unit`, as are their starts, so that networks which
/// pool see every position in the same cell. Neighbours overlap by about a quarter of a tile or more.
pub(super) fn axis(length: usize, side: usize, unit: usize) -> Vec<Tile> {
    let side = side.min(length);
    let overlap = (side / 4).next_multiple_of(unit).min(side - unit.min(side));
    let stride = (side - overlap).max(1);
    let mut starts: Vec<usize> = (0..)
        .map(|i| i * stride)
        .take_while(|start| start + side < length)
        .collect();
    starts.push(length - side);
    // A tile counts little at its ends and most in its middle, the outermost at the picture's edge, too.
    let bump = |start: usize, i: usize| {
        let from_left = if start == 0 { side } else { i + 1 };
        let from_right = if start + side == length {
            side
        } else {
            side - i
        };
        from_left.min(from_right).min(overlap.max(1)) as f64
    };
    let mut total = vec![0.0; length];
    for &start in &starts {
        (0..side).for_each(|i| total[start + i] += bump(start, i));
    }
    let tile = |&start: &usize| Tile {
        start,
        weights: (0..side)
            .map(|i| (bump(start, i) / total[start + i]) as f32)
            .collect(),
    };
    starts.iter().map(tile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_to_one_and_tiles_fit() {
        for unit in [1, 4, 8] {
            for length in (1..40).map(|n| n * unit) {
                for side in (2..9).map(|n| n * unit) {
                    let tiles = axis(length, side, unit);
                    let mut total = vec![0f32; length];
                    for (k, tile) in tiles.iter().enumerate() {
                        assert_eq!(tile.weights.len(), side.min(length));
                        assert_eq!(tile.start % unit, 0);
                        assert!(k == 0 || tile.start > tiles[k - 1].start);
                        for (t, w) in total[tile.start..].iter_mut().zip(&tile.weights) {
                            *t += w;
                            assert!(*w > 0.0);
                        }
                    }
                    let off = total.iter().map(|t| (t - 1.0).abs()).fold(0f32, f32::max);
                    assert!(off < 1e-6, "{length} {side} {unit}: {off}");
                }
            }
        }
    }

    #[test]
    fn a_picture_of_one_tile_is_that_tile() {
        let tiles = axis(32, 64, 4);
        assert_eq!(tiles.len(), 1);
        assert!(tiles[0].weights.iter().all(|w| *w == 1.0) && tiles[0].weights.len() == 32);
        assert_eq!(axis(128, 64, 4).len(), 3);
    }
}
