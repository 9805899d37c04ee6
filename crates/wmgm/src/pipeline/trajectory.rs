//! Which steps of a sampler a trajectory shows, and noisy pictures as they can be shown.

use super::OnStep;
use crate::error::Result;
use candle_core::Tensor;

/// The most steps that are shown, evenly spread if there are more.
pub const COLUMNS: usize = 16;

/// Whether step `step` of `steps`, from 1, is one of those shown; the last always is.
pub(super) fn shows(step: usize, steps: usize) -> bool {
    // Step i is the first at or beyond k / COLUMNS of the way for some k.
    let column = |step: usize| step * COLUMNS / steps.max(1);
    steps <= COLUMNS || column(step) > column(step.saturating_sub(1))
}

/// The noisy states that a trajectory shows of `steps` steps, and what `sample` ends with; it tells of every step.
pub(super) fn noisy(
    steps: usize,
    on_step: OnStep<'_>,
    sample: impl FnOnce(&mut dyn FnMut(usize, &Tensor) -> candle_core::Result<()>) -> Result<Tensor>,
) -> Result<(Vec<Tensor>, Tensor)> {
    let mut states = Vec::new();
    let finished = sample(&mut |i, x| {
        if shows(i + 1, steps) && i + 1 < steps {
            states.push(x.clone());
        }
        on_step(i + 1)
    })?;
    Ok((states, finished))
}

/// Pictures (N, C, H, W) whose root mean square is above that of pictures, about 1/2, brought down to it, each by itself.
pub(super) fn within_range(x: &Tensor) -> candle_core::Result<Tensor> {
    let rms = x.sqr()?.mean_keepdim((1, 2, 3))?.sqrt()?;
    x.broadcast_div(&(rms * 2.0)?.maximum(1.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_steps_are_all_shown_and_many_evenly() {
        for steps in [1, 2, 15, 16, 17, 50, 1000] {
            let shown: Vec<usize> = (1..=steps).filter(|&s| shows(s, steps)).collect();
            assert_eq!(shown.len(), steps.min(COLUMNS), "{steps}");
            assert_eq!(shown.last(), Some(&steps));
            let gaps: Vec<usize> = shown.windows(2).map(|w| w[1] - w[0]).collect();
            let (least, most) = (gaps.iter().min(), gaps.iter().max());
            assert!(
                most.unwrap_or(&0) - least.unwrap_or(&0) <= 1,
                "{steps}: {gaps:?}"
            );
        }
    }
}
