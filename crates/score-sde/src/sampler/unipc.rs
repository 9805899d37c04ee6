//! A predictor and a corrector for one evaluation.

use super::exponential::{History, check_order, check_sigmas, combine};
use super::{Denoiser, OnStep};
use crate::error::{Error, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// The function B(h) of UniPC, diffusers' `solver_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bh {
    /// B(h) = h.
    Bh1,
    /// B(h) = e^h - 1.
    #[default]
    Bh2,
}

/// Choices of [`unipc`], with diffusers' names and defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UniPc {
    /// Order of the predictor, 1, 2 or 3; the corrector adds one. The first steps are of lower order.
    pub order: usize,
    /// B(h).
    pub bh: Bh,
    /// The last steps are of lower order, the last of first. A step to sigma 0 always is.
    pub lower_order_final: bool,
    /// Steps, from 0, after which nothing is corrected (`disable_corrector`).
    pub uncorrected: Vec<usize>,
}

impl Default for UniPc {
    fn default() -> Self {
        Self {
            order: 2,
            bh: Bh::Bh2,
            lower_order_final: true,
            uncorrected: Vec::new(),
        }
    }
}

/// UniPC (Zhao et al. 2023, arXiv 2302.04867, algorithms 1 and 2, in the form that predicts clean pictures): the predictor's
/// evaluation is also the corrector's of the step before. One evaluation per step. diffusers' UniPCMultistepScheduler.
///
/// `on_step` sees the predicted state, as diffusers returns it; it is corrected at the beginning of the next step.
///
/// # Errors
/// An order not in 1..=3, no steps, levels that do not fall, errors of the denoiser and of `on_step`.
pub fn unipc(
    d: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    options: &UniPc,
    on_step: OnStep,
) -> Result<Tensor> {
    check_order("unipc", options.order)?;
    check_sigmas("unipc", sigmas)?;
    let steps = sigmas.len() - 1;
    let mut past = History::new(options.order);
    let mut last: Option<(Tensor, f64, usize)> = None;
    for (i, w) in sigmas.windows(2).enumerate() {
        let (s, next) = (w[0], w[1]);
        let clean = d.denoise(&x, s)?;
        if let Some((from, before, order)) = last.take()
            && !options.uncorrected.contains(&(i - 1))
            && s < before
        {
            x = step(options.bh, &past, &from, s / before, order, Some(&clean))?;
        }
        past.push(clean, s);
        let order = match () {
            () if next == 0.0 || next == s => 1,
            () if options.lower_order_final => options.order.min(steps - i),
            () => options.order,
        };
        let order = order.min(past.len());
        let predicted = step(options.bh, &past, &x, next / s, order, None)?;
        last = Some((std::mem::replace(&mut x, predicted), s, order));
        on_step(i, &x)?;
    }
    Ok(x)
}

/// A step from the newest value's level to `ratio` times it, by the predictor, or by the corrector with the value `end`
/// at its end: x' = ratio x + (1 - ratio) m_0 - B(-h) sum_k rho_k (m_k - m_0) / r_k (eqs. 3 and 8 of the paper).
fn step(
    bh: Bh,
    past: &History,
    x: &Tensor,
    ratio: f64,
    order: usize,
    end: Option<&Tensor>,
) -> Result<Tensor> {
    let h = -ratio.ln();
    let newest = past.value(0);
    let mut nodes: Vec<(f64, &Tensor)> = (1..order)
        .filter_map(|k| Some((-past.log_ratio(k) / h, past.value(k)?)))
        .collect();
    nodes.extend(end.map(|value| (1.0, value)));
    let rs: Vec<f64> = nodes.iter().map(|n| n.0).collect();
    let (rhos, b) = match nodes.len() {
        0 => (Vec::new(), 0.0),
        n => rhos(bh, h, &rs, n)?,
    };
    let factors: Vec<f64> = rhos.iter().zip(&rs).map(|(rho, r)| -b * rho / r).collect();
    let mut terms = vec![(ratio, x)];
    terms.extend(newest.map(|m| (1.0 - ratio - factors.iter().sum::<f64>(), m)));
    terms.extend(factors.iter().copied().zip(nodes.iter().map(|n| n.1)));
    Ok(combine(&terms)?)
}

/// rho of `n` nodes r, and B(-h): sum_k rho_k r_k^(i-1) = b_i, b_i = i! h phi_(i+1)(-h) / B for i = 1..=n (eq. 5). A single
/// node has 1/2, the limit for small steps, as the authors' program and diffusers have it.
fn rhos(bh: Bh, h: f64, rs: &[f64], n: usize) -> Result<(Vec<f64>, f64)> {
    let z = -h;
    let b = match bh {
        Bh::Bh1 => z,
        Bh::Bh2 => z.exp_m1(),
    };
    if n == 1 {
        return Ok((vec![0.5], b));
    }
    let (mut phi, mut factorial, mut rows) = (z.exp_m1() / z - 1.0, 1.0, Vec::new());
    for i in 1..=n {
        let mut row: Vec<f64> = rs.iter().map(|r| r.powi(i as i32 - 1)).collect();
        row.push(phi * factorial / b);
        rows.push(row);
        factorial *= (i + 1) as f64;
        phi = phi / z - 1.0 / factorial;
    }
    Ok((solve(rows)?, b))
}

/// Gauss and Jordan's elimination of rows (A | b), pivots as they come: A is a Vandermonde matrix of distinct nodes.
fn solve(mut rows: Vec<Vec<f64>>) -> Result<Vec<f64>> {
    let n = rows.len();
    for k in 0..n {
        let pivot = rows[k].clone();
        if pivot[k] == 0.0 {
            return Err(Error::Argument {
                op: "unipc",
                name: "sigmas",
                value: "two equal levels among the last".into(),
                need: "distinct",
            });
        }
        for (i, row) in rows.iter_mut().enumerate() {
            let factor = if i == k {
                1.0 - 1.0 / pivot[k]
            } else {
                row[k] / pivot[k]
            };
            row.iter_mut()
                .zip(&pivot)
                .for_each(|(a, p)| *a -= factor * p);
        }
    }
    Ok(rows.iter().map(|row| row[n]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_equations_are_solved() {
        let rows = vec![
            vec![1.0, 1.0, 1.0, 2.0],
            vec![-2.0, -1.0, 1.0, 3.0],
            vec![4.0, 1.0, 1.0, 5.0],
        ];
        let y = solve(rows.clone()).unwrap();
        for row in rows {
            let got: f64 = row.iter().zip(&y).map(|(a, y)| a * y).sum();
            assert!((got - row[3]).abs() < 1e-12);
        }
        assert!(solve(vec![vec![0.0, 1.0]]).is_err());
    }
}
