//! DPM-Solver++ in groups of steps.

use super::dpmpp_multistep::Dpmpp;
use super::exponential::{Form, History, check_order, check_sigmas};
use super::{Denoiser, Noise, OnStep};
use crate::error::Result;
use candle_core::Tensor;

/// DPM-Solver++ and SDE-DPM-Solver++, singlestep (Lu et al. 2022, arXiv 2211.01095, algorithm 1, and 2206.00927,
/// algorithms 4 and 5): in a group of `order` steps each starts from the group's first state, and the k-th is of order k.
/// One evaluation per step. diffusers' DPMSolverSinglestepScheduler; noise is asked for only with `sde`.
///
/// The paper puts the points inside a group at 1/2, or at 1/3 and 2/3 of it in lambda, which is what a grid uniform in lambda
/// ([`exponential`](crate::grid::exponential)) does; here, as in diffusers, they are points of the grid.
///
/// With `sde` each step of a group draws noise of its own, as in diffusers, so the values inside a group say nothing of the
/// noise that its last step adds: of first order whatever `order` is (measured in `examples/order`). Use
/// [`dpmpp_multistep`](super::dpmpp_multistep) for the SDE.
///
/// # Errors
/// An order not in 1..=3, no steps, levels that do not fall, errors of the denoiser, of `noise` and of `on_step`.
pub fn dpmpp_singlestep(
    d: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    options: &Dpmpp,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    check_order("dpmpp_singlestep", options.order)?;
    check_sigmas("dpmpp_singlestep", sigmas)?;
    let orders = group_orders(sigmas, options);
    let (mut start, mut first, mut past) = (x.clone(), 0.0, History::new(3));
    for (i, (w, order)) in sigmas.windows(2).zip(orders).enumerate() {
        let (s, next) = (w[0], w[1]);
        if order == 1 {
            (start, first, past) = (x.clone(), s, History::new(3));
        }
        past.push(d.denoise(&x, s)?, s);
        let order = order.min(past.len());
        let decay = options.decay(next / first);
        let guess = past.sum(&weights(options, &past, order, first.ln() - next.ln())[..order])?;
        x = ((&start * decay)? + (guess * (1.0 - decay))?)?;
        if options.sde && next > 0.0 {
            x = (&x + (noise(i, &x)? * (next * (1.0 - decay).sqrt()))?)?;
        }
        on_step(i, &x)?;
    }
    Ok(x)
}

/// The order of every step: groups of 1, 2, ..., `order`, then what is left over. The last step is of first order where
/// sampling ends at 0, and with `lower_order_final`.
fn group_orders(sigmas: &[f64], options: &Dpmpp) -> Vec<usize> {
    let (n, order) = (sigmas.len() - 1, options.order);
    let to_zero = sigmas.last() == Some(&0.0);
    let mut orders: Vec<usize> = (0..n).map(|i| i % order + 1).collect();
    if to_zero || (options.lower_order_final && n % order == 0) {
        orders[n - 1] = 1;
    }
    orders
}

/// Weights of the values, the newest first, in the guess at D over a step of size h from the group's first state.
fn weights(options: &Dpmpp, past: &History, order: usize, h: f64) -> [f64; 3] {
    let (slope, curvature) = options.slopes(h);
    // Where the values lie in the step, the first of the group at 0.
    let at = |i: usize| (past.log_ratio(order - 1) - past.log_ratio(i)) / h;
    match order {
        1 => [1.0, 0.0, 0.0],
        2 => {
            let half = match options.form {
                Form::Midpoint => 0.5,
                Form::Heun => slope,
            } / at(0);
            [half, 1.0 - half, 0.0]
        }
        _ => {
            let (r0, r1) = (at(0), at(1));
            // Factors of the slopes to the newest and to the middle value.
            let (new, mid) = match options.form {
                Form::Midpoint => (slope, 0.0),
                Form::Heun => (
                    (2.0 * curvature - slope * r1) / (r0 - r1),
                    (slope * r0 - 2.0 * curvature) / (r0 - r1),
                ),
            };
            [new / r0, mid / r1, 1.0 - new / r0 - mid / r1]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_those_of_diffusers() {
        let of = |n: usize, order, end: f64, lower_order_final| {
            let mut sigmas: Vec<f64> = (0..n).map(|i| 100.0 - i as f64).collect();
            sigmas.push(end);
            let options = Dpmpp {
                order,
                lower_order_final,
                ..Default::default()
            };
            group_orders(&sigmas, &options)
        };
        assert_eq!(of(6, 3, 1.0, true), [1, 2, 3, 1, 2, 1]);
        assert_eq!(of(7, 3, 1.0, true), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(of(8, 3, 1.0, true), [1, 2, 3, 1, 2, 3, 1, 2]);
        assert_eq!(of(8, 3, 0.0, true), [1, 2, 3, 1, 2, 3, 1, 1]);
        assert_eq!(of(6, 2, 1.0, true), [1, 2, 1, 2, 1, 1]);
        assert_eq!(of(5, 2, 0.0, false), [1, 2, 1, 2, 1]);
        assert_eq!(of(6, 3, 1.0, false), [1, 2, 3, 1, 2, 3]);
        assert_eq!(
            (of(1, 3, 0.0, true), of(2, 1, 0.0, true)),
            (vec![1], vec![1, 1])
        );
    }
}
