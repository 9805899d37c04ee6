//! Numbers by formula, as `scripts/formula.py` has them, for the tests of several crates: nothing need be stored.

/// Uniform in [-1, 1), a function of name and index alone: FNV-1a of the name, then splitmix64.
pub fn numbers(name: &str, count: usize) -> Vec<f64> {
    let hash = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    let h = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    let one = |i: u64| {
        let z = h.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 * 2f64.powi(-52) - 1.0
    };
    (1..=count as u64).map(one).collect()
}
