//! Transformed weights that layers keep. One test, for the budget belongs to the process.
#![allow(missing_docs)]

use candle_core::{Device, Module, Tensor, Var};
use nn_ops::memory::{kept_weights, limit_kept_weights};
use nn_ops::{Conv2d, Conv2dConfig, conv2d, noise};

fn values(shape: &[usize], seed: u64) -> Tensor {
    let t = noise::normal_tensor(seed, &[0], 0, 0, shape, &Device::Cpu).unwrap();
    t.squeeze(0).unwrap()
}

fn bits(t: &Tensor) -> Vec<u32> {
    let values = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn layers_keep_transforms_within_the_budget_and_give_the_same_bits() {
    let cfg = Conv2dConfig::same(3);
    let x = values(&[2, 16, 12, 12], 1);
    let w = values(&[32, 16, 3, 3], 2);
    let want = bits(&conv2d(&x, &w, None, cfg).unwrap());
    let bytes = 36 * (32 * 16 + 16) * 4;
    assert_eq!(kept_weights(), 0, "a function keeps nothing");

    let layer = Conv2d::from_tensors(w.clone(), None, cfg);
    for _ in 0..2 {
        assert_eq!(bits(&layer.forward(&x).unwrap()), want);
        assert_eq!(kept_weights(), bytes);
    }
    let clone = layer.clone();
    assert_eq!(bits(&clone.forward(&x).unwrap()), want);
    assert_eq!(kept_weights(), bytes, "clones share");

    limit_kept_weights(bytes + 1);
    let other = Conv2d::from_tensors(w.clone(), None, cfg);
    assert_eq!(bits(&other.forward(&x).unwrap()), want);
    assert_eq!(kept_weights(), bytes, "the budget is spent");
    drop((layer, clone));
    assert_eq!(kept_weights(), 0);
    assert_eq!(bits(&other.forward(&x).unwrap()), want);
    assert_eq!(kept_weights(), bytes);
    // In training nothing is kept, and a step shows at once.
    limit_kept_weights(usize::MAX);
    let var = Var::from_tensor(&w).unwrap();
    let trained = Conv2d::from_tensors(var.as_tensor().clone(), None, cfg);
    assert_eq!(bits(&trained.forward(&x).unwrap()), want);
    var.set(&values(&[32, 16, 3, 3], 3)).unwrap();
    assert_ne!(bits(&trained.forward(&x).unwrap()), want);
    assert_eq!(kept_weights(), bytes);

    // Many threads at once, each in a task of the pool that the transforms run on.
    let shared = Conv2d::from_tensors(w, None, cfg);
    let same = rayon::broadcast(|_| bits(&shared.forward(&x).unwrap()) == want);
    assert!(same.iter().all(|same| *same));
    drop((shared, other));
    assert_eq!(kept_weights(), 0);
}
