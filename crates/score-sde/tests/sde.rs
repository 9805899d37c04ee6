//! The continuous-time part against numbers computed by score_sde: outputs within 1e-4 of the largest.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{Case, close, golden};
use score_sde::sde::{Process, Sde};

fn kinds() -> [(&'static str, Process); 3] {
    [("vp", "vpsde"), ("subvp", "subvpsde"), ("ve", "vesde")].map(|(k, n)| (k, n.parse().unwrap()))
}

fn times(case: &Case) -> Vec<f64> {
    case.get("t")
        .to_dtype(DType::F64)
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// One factor per picture times x.
fn scaled(x: &Tensor, factors: &[f64]) -> Tensor {
    let f = Tensor::new(factors, &Device::Cpu).unwrap();
    let f = f.to_dtype(x.dtype()).unwrap();
    x.broadcast_mul(&f.reshape((factors.len(), 1, 1, 1)).unwrap())
        .unwrap()
}

#[test]
fn processes() {
    for case in golden("score-sde-processes") {
        let (x, t) = (case.get("x"), times(&case));
        for (kind, sde) in kinds() {
            let list = |f: &dyn Fn(f64) -> f64| t.iter().map(|&t| f(t)).collect::<Vec<f64>>();
            let vector = |name: &str, values: Vec<f64>| {
                let got = Tensor::new(values, &Device::Cpu).unwrap();
                close(&case, &format!("{kind}.{name}"), &got, 1e-4);
            };
            let picture = |name: &str, factors: &[f64]| {
                close(&case, &format!("{kind}.{name}"), &scaled(&x, factors), 1e-4);
            };
            picture("drift", &list(&|t| sde.drift(t)));
            vector("diffusion", list(&|t| sde.diffusion(t)));
            picture("mean", &list(&|t| sde.marginal(t).signal));
            vector("std", list(&|t| sde.marginal(t).std));
            picture("disc_f", &list(&|t| sde.discretize(t).drift));
            vector("disc_G", list(&|t| sde.discretize(t).diffusion));
            vector("prior_logp", sde.prior_log_density(&x).unwrap());
        }
    }
}
