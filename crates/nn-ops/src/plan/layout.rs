//! Places of intermediate values in one buffer.

use crate::cpu::blocked::BLOCK;

/// Where a value lies: some blocks of a buffer, which may be wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub buffer: usize,
    /// First block.
    pub block: usize,
}

/// A buffer's size, and the steps during which something is in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffer {
    pub blocks: usize,
    pub h: usize,
    pub w: usize,
    pub first: usize,
    pub last: usize,
}

impl Buffer {
    pub(super) fn new(blocks: usize, h: usize, w: usize) -> Self {
        Self {
            blocks,
            h,
            w,
            first: usize::MAX,
            last: 0,
        }
    }

    /// Floats per picture.
    pub(super) fn floats(&self) -> usize {
        self.blocks * self.h * self.w * BLOCK
    }

    /// Something is in it at this step.
    pub(super) fn used(&mut self, step: usize) {
        self.first = self.first.min(step);
        self.last = self.last.max(step);
    }

    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// An offset for every buffer, such that none that are in use at the same step overlap, and the size of the whole; in floats
/// per picture. The largest buffers choose first, each the lowest gap it fits into.
pub(super) fn offsets(buffers: &[Buffer]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(buffers[i].floats()));
    let mut offsets = vec![0; buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for &i in &order {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&j| buffers[i].meets(&buffers[j]))
            .map(|&j| (offsets[j], offsets[j] + buffers[j].floats()))
            .collect();
        taken.sort_unstable();
        let mut at = 0;
        for (from, to) in taken {
            if from >= at + buffers[i].floats() {
                break;
            }
            at = at.max(to);
        }
        offsets[i] = at;
        total = total.max(at + buffers[i].floats());
        placed.push(i);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_meet_do_not_overlap_and_others_share() {
        let buffer = |blocks, first, last| Buffer {
            first,
            last,
            ..Buffer::new(blocks, 1, 1)
        };
        let all = [
            buffer(4, 0, 2),
            buffer(2, 1, 3),
            buffer(3, 3, 6),
            buffer(1, 0, 6),
            buffer(4, 4, 5),
        ];
        let (offsets, total) = offsets(&all);
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate().take(i) {
                let apart =
                    offsets[i] + a.floats() <= offsets[j] || offsets[j] + b.floats() <= offsets[i];
                assert!(apart || !a.meets(b), "{i} and {j}: {offsets:?}");
            }
        }
        assert!(total < all.iter().map(Buffer::floats).sum());
    }
}
