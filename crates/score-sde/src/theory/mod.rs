//! How many steps a diffusion needs, exactly, for Gaussian data: the theory behind diffusing wavelet bands.
//!
//! Data N(0, Sigma) are diffused by dx = -x dt + sqrt(2) dw up to a horizon T and brought back from N(0, 1) by N
//! Euler-Maruyama steps of size delta = T / N with the exact score:
//!
//! ```text
//! x <- x + delta (x + 2 score(x, t)) + sqrt(2 delta) z,    score(x, t) = -x / s(t),  s(t) = 1 + (l - 1) e^(-2t)
//! ```
//!
//! Everything is diagonal in the eigenbasis of Sigma, so per eigenvalue l the law of the result is a normal one whose
//! variance follows a recursion of one number. [`kl`] is the Kullback-Leibler divergence of the data from it, without
//! any approximation; [`Terms`] sets the terms of Theorem 1 of Xiao et al. 2024 (arXiv 2411.09356) beside it, which is
//! Theorem 2 of Guth, Coste, De Bortoli and Mallat 2022, "Wavelet score-based generative modeling" (arXiv 2208.05003);
//! [`steps_needed`] finds the smallest N for a divergence, with the best T. [`Field`] is a stationary picture with a
//! power-law spectrum or a measured one, whose pixels are badly conditioned and whose standardised wavelet details are not.
//!
//! All numbers are f64 and in nats. `cargo run -p score-sde --example theory` prints the tables of docs/theory.md.

mod field;
mod recursion;
mod spectrum;
mod steps;
mod symmetric;
mod theorem;

pub use field::{Details, Field, HAAR};
pub use recursion::{Outcome, horizon_kl, kl, outcome, step_kl};
pub use spectrum::{Mode, Spectrum};
pub use steps::{Steps, best_horizon, power_fit, steps_needed};
pub use symmetric::eigen;
pub use theorem::{Terms, f, first_order, printed_order};
