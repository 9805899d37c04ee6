//! Noise levels by formula.

/// `steps` levels from `max` to `min`, evenly spaced in sigma^(1 / rho) (Karras et al. 2022, arXiv 2206.00364, eq. 5).
pub fn karras(steps: usize, max: f64, min: f64, rho: f64) -> Vec<f64> {
    let inv = 1.0 / rho;
    let (hi, lo) = (max.powf(inv), min.powf(inv));
    let last = steps.saturating_sub(1).max(1) as f64;
    (0..steps)
        .map(|i| (hi + i as f64 / last * (lo - hi)).powf(rho))
        .collect()
}

/// `steps` levels from `max` to `min`, evenly spaced in ln sigma.
///
/// Half the log-SNR is -ln sigma in these coordinates, so this is also the grid uniform in lambda of DPM-Solver (Lu et
/// al. 2022, arXiv 2206.00927), diffusers' `use_lu_lambdas`, and on it the steps of all exponential integrators are equal.
pub fn exponential(steps: usize, max: f64, min: f64) -> Vec<f64> {
    let (hi, lo) = (max.ln(), min.ln());
    let last = steps.saturating_sub(1).max(1) as f64;
    (0..steps)
        .map(|i| match i {
            0 => max,
            _ if i + 1 == steps => min,
            _ => (hi + i as f64 / last * (lo - hi)).exp(),
        })
        .collect()
}

/// `steps` levels of a rectified flow x_t = (1 - t) x_0 + t noise with `train` training times: t as it is shown to the
/// network, in (0, 1), from 1 - 1 / train down. `shift` > 1 puts more of them at high noise: t' = shift t / (1 + (shift
/// - 1) t) (Esser et al. 2024, arXiv 2403.03206, eq. 23).
///
/// In the coordinates of the samplers here sigma is t / (1 - t).
pub fn flow(steps: usize, train: usize, shift: f64) -> Vec<f64> {
    let top = 1.0 - 1.0 / train.max(2) as f64;
    (0..steps)
        .map(|i| {
            let t = top * (steps - i) as f64 / steps as f64;
            shift * t / (1.0 + (shift - 1.0) * t)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_exact_and_levels_fall() {
        for grid in [karras(9, 80.0, 0.002, 7.0), exponential(9, 80.0, 0.002)] {
            assert!((grid[0] - 80.0).abs() < 1e-9 && (grid[8] - 0.002).abs() < 1e-12);
            assert!(grid.windows(2).all(|w| w[0] > w[1]));
        }
        let e = exponential(9, 80.0, 0.002);
        assert!(
            e.windows(3)
                .all(|w| (w[1] * w[1] / (w[0] * w[2]) - 1.0).abs() < 1e-12)
        );
        assert_eq!(
            (karras(0, 80.0, 0.1, 7.0), exponential(1, 3.0, 1.0)),
            (vec![], vec![3.0])
        );
        assert_eq!(flow(4, 1000, 1.0)[0], 0.999);
    }
}
