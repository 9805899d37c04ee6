//! Multiply-adds of layers, by their shapes.
//!
//! Counted are the products of convolutions, fully connected layers and attention, as the textbook has them: padding counts
//! as pixels do, and a fast algorithm (Winograd's) as the plain one. Biases, normalisations, activations, resampling without
//! parameters and embeddings of time are not: together they are below one per cent of a U-Net. One multiply-add is two FLOP.

use crate::conv::{Conv2d, Conv2dConfig};

/// Multiply-adds of [`conv2d`](crate::conv2d) for one picture of `size` (H, W) and weights (Co, Ci / groups, Kh, Kw).
///
/// 0 where the kernel is larger than the padded picture or the weights have another rank.
pub fn conv2d_multiply_adds(weights: &[usize], cfg: Conv2dConfig, size: [usize; 2]) -> u64 {
    let &[co, ci, kh, kw] = weights else {
        return 0;
    };
    let positions = |n: usize, k: usize| match (n + 2 * cfg.padding).checked_sub(k) {
        Some(room) => room / cfg.stride.max(1) + 1,
        None => 0,
    };
    let [h, w] = size;
    [co, ci, kh, kw, positions(h, kh), positions(w, kw)]
        .map(|n| n as u64)
        .iter()
        .product()
}

/// Multiply-adds of [`self_attention`](crate::self_attention) for one picture of `positions`: queries times keys and
/// weights times values, `channels` being those of all heads.
pub fn self_attention_multiply_adds(channels: usize, positions: usize) -> u64 {
    2 * channels as u64 * (positions as u64).pow(2)
}

impl Conv2d {
    /// Multiply-adds for one picture of `size` (H, W).
    pub fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        conv2d_multiply_adds(self.weight().dims(), self.config(), size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_by_hand() {
        let same = Conv2dConfig::same(3);
        // 16 x 8 outputs, each of 5 channels from 3 x 3 x 4 numbers.
        assert_eq!(
            conv2d_multiply_adds(&[5, 4, 3, 3], same, [16, 8]),
            128 * 5 * 36
        );
        let strided = Conv2dConfig {
            stride: 2,
            padding: 1,
            groups: 2,
        };
        // Half of the size; every output sees the 2 channels of its group.
        assert_eq!(
            conv2d_multiply_adds(&[6, 2, 3, 3], strided, [16, 16]),
            64 * 6 * 18
        );
        let bare = Conv2dConfig::default();
        assert_eq!(conv2d_multiply_adds(&[1, 1, 3, 3], bare, [5, 4]), 3 * 2 * 9);
        assert_eq!(conv2d_multiply_adds(&[1, 1, 3, 3], bare, [2, 4]), 0);
        // 4 heads of 8 channels at 10 positions: 10 x 10 scores of 8 products each, and 8 sums of 10 for each position.
        assert_eq!(
            self_attention_multiply_adds(32, 10),
            4 * (100 * 8 + 10 * 8 * 10)
        );
    }
}
