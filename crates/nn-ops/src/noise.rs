//! Counter-based noise: any number of a stream can be had without drawing those before it.
//!
//! A value is a pure function of (seed, index, stream, step, position): `index` is usually the number of a picture,
//! `stream` says what the noise is for, `step` counts inside a sampler or a training run. So picture i of a seed is
//! the same alone, in a batch, in a shard and at any thread count. The generator is Philox4x32-10 (Salmon et al.
//! 2011, "Parallel random numbers: as easy as 1, 2, 3").
//!
//! Every function here takes an `index` below 2^48 and a `stream` below 2^16; larger ones are addresses of others, and their
//! noise is that of those.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// One block of the generator: four words from a counter and a key.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let wide = |m: u32, c: u32| {
            let p = m as u64 * c as u64;
            ((p >> 32) as u32, p as u32)
        };
        let (hi0, lo0) = wide(MULTIPLIER[0], counter[0]);
        let (hi1, lo1) = wide(MULTIPLIER[1], counter[2]);
        counter = [
            hi1 ^ counter[1] ^ key[0],
            lo1,
            hi0 ^ counter[3] ^ key[1],
            lo0,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The noise of one address, readable at any block of four words.
#[derive(Debug, Clone, Copy)]
struct Stream {
    key: [u32; 2],
    tail: [u32; 3],
}

impl Stream {
    /// `index` below 2^48 and `stream` below 2^16 give distinct addresses.
    fn new(seed: u64, index: u64, stream: u32, step: u32) -> Self {
        let high = (index >> 32) as u32 ^ (stream << 16);
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            tail: [step, index as u32, high],
        }
    }

    fn block(&self, i: usize) -> [u32; 4] {
        philox4x32(
            [i as u32, self.tail[0], self.tail[1], self.tail[2]],
            self.key,
        )
    }
}

/// Fills `out` with standard normal values (Box and Muller's transform, in f64).
pub fn fill_normal(seed: u64, index: u64, stream: u32, step: u32, out: &mut [f32]) {
    let source = Stream::new(seed, index, stream, step);
    for (i, four) in out.chunks_mut(4).enumerate() {
        let words = source.block(i);
        let normals = [
            gaussian_pair(words[0], words[1]),
            gaussian_pair(words[2], words[3]),
        ];
        let flat = [normals[0].0, normals[0].1, normals[1].0, normals[1].1];
        four.copy_from_slice(&flat[..four.len()]);
    }
}

/// Two independent normal values from two words. The libm crate gives the same bits on every platform.
fn gaussian_pair(a: u32, b: u32) -> (f32, f32) {
    const SCALE: f64 = 1.0 / 4_294_967_296.0;
    // In (0, 1): the logarithm stays finite, the largest value is about 6.7.
    let radius = (-2.0 * libm::log((a as f64 + 0.5) * SCALE)).sqrt();
    let (sin, cos) = libm::sincos(std::f64::consts::TAU * (b as f64 + 0.5) * SCALE);
    ((radius * cos) as f32, (radius * sin) as f32)
}

/// Fills `out` with values uniform in [0, 1).
pub fn fill_uniform(seed: u64, index: u64, stream: u32, step: u32, out: &mut [f32]) {
    let source = Stream::new(seed, index, stream, step);
    for (i, four) in out.chunks_mut(4).enumerate() {
        for (o, w) in four.iter_mut().zip(source.block(i)) {
            *o = (w >> 8) as f32 * (1.0 / 16_777_216.0);
        }
    }
}

/// Fills `out` with uniform 32-bit words.
pub fn fill_words(seed: u64, index: u64, stream: u32, step: u32, out: &mut [u32]) {
    let source = Stream::new(seed, index, stream, step);
    for (i, four) in out.chunks_mut(4).enumerate() {
        let block = source.block(i);
        four.copy_from_slice(&block[..four.len()]);
    }
}

/// Standard normal noise (indices.len(), item shape...), each item that of its index.
///
/// # Errors
/// Only those of the device.
pub fn normal_tensor(
    seed: u64,
    indices: &[u64],
    stream: u32,
    step: u32,
    item: &[usize],
    device: &Device,
) -> Result<Tensor> {
    let len: usize = item.iter().product();
    let mut data = vec![0f32; indices.len() * len];
    data.par_chunks_mut(len.max(1))
        .zip(indices)
        .for_each(|(out, &index)| fill_normal(seed, index, stream, step, out));
    let shape: Vec<usize> = std::iter::once(indices.len())
        .chain(item.iter().copied())
        .collect();
    Tensor::from_vec(data, shape, device)
}

/// The numbers 0..len in an order that depends on (seed, epoch) alone: a shuffle that needs no state.
pub fn permutation(seed: u64, epoch: u32, len: usize) -> Vec<u32> {
    const STREAM: u32 = 0x5AFE;
    let mut words = vec![0u32; 2 * len];
    fill_words(seed, 0, STREAM, epoch, &mut words);
    let key = |i: usize| (words[2 * i] as u64) << 32 | words[2 * i + 1] as u64;
    let mut order: Vec<u32> = (0..len as u32).collect();
    order.sort_unstable_by_key(|&i| (key(i as usize), i));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (kat_vectors, philox 4x32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(
            philox4x32([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn normal_moments() {
        let mut v = vec![0f32; 1 << 18];
        fill_normal(7, 3, 1, 2, &mut v);
        let n = v.len() as f64;
        let moment = |p: i32| v.iter().map(|&x| (x as f64).powi(p)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.01, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.01, "{}", moment(2));
        assert!(moment(3).abs() < 0.03, "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.06, "{}", moment(4));
    }

    #[test]
    fn every_part_of_the_address_matters_and_prefixes_agree() {
        let draw = |seed, index, stream, step, len| {
            let mut v = vec![0f32; len];
            fill_normal(seed, index, stream, step, &mut v);
            v
        };
        let base = draw(1, 2, 3, 4, 8);
        assert_ne!(base, draw(9, 2, 3, 4, 8));
        assert_ne!(base, draw(1, 9, 3, 4, 8));
        assert_ne!(base, draw(1, 2, 9, 4, 8));
        assert_ne!(base, draw(1, 2, 3, 9, 8));
        assert_ne!(base, draw(1 << 40 | 1, 2, 3, 4, 8));
        assert_ne!(base, draw(1, 1 << 40 | 2, 3, 4, 8));
        assert_eq!(base[..5], draw(1, 2, 3, 4, 5)[..]);
    }

    #[test]
    fn an_item_does_not_depend_on_its_batch() {
        let all = normal_tensor(5, &[3, 8, 1], 0, 0, &[2, 3], &Device::Cpu).unwrap();
        let one = normal_tensor(5, &[8], 0, 0, &[2, 3], &Device::Cpu).unwrap();
        assert_eq!(
            all.get(1).unwrap().to_vec2::<f32>().unwrap(),
            one.get(0).unwrap().to_vec2::<f32>().unwrap()
        );
    }

    #[test]
    fn permutations_hold_every_number_once() {
        let p = permutation(1, 0, 1000);
        let mut sorted = p.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        assert_ne!(p, permutation(1, 1, 1000));
        assert_ne!(p, sorted);
    }
}
