//! Fewer steps out of a longer process.

use crate::error::{Error, Result};

/// alpha_bar after each of `visited` (ascending), if a step leads `stride` steps down whatever is visited next, and to `end`
/// from where that leaves the process: diffusers' DDIM, whose stride is T / n for n steps of T (rounded down) and which
/// ends at 1, or at the first step's alpha_bar if `set_alpha_to_one` is off. With linspace or trailing spacing that is not
/// always where the next step begins.
///
/// # Errors
/// A step that is none of the process.
pub fn strided_bars(
    alphas_cumprod: &[f64],
    visited: &[usize],
    stride: usize,
    end: f64,
) -> Result<Vec<f64>> {
    if let Some(step) = visited.iter().find(|t| **t >= alphas_cumprod.len()) {
        return Err(Error::Argument {
            op: "strided_bars",
            name: "visited",
            value: format!("{step} in a process of {} steps", alphas_cumprod.len()),
            need: "below the number of steps",
        });
    }
    let after = |t: &usize| t.checked_sub(stride).map_or(end, |t| alphas_cumprod[t]);
    Ok(visited.iter().map(after).collect())
}

/// The steps to keep of a process of `steps`, ascending.
///
/// `spec` is a list of counts separated by commas: the process is cut into as many sections of equal size, and each
/// gives that many steps, evenly spaced, its first and last among them ("15,10": 15 of the less noisy half, 10 of the
/// other). "ddimN" takes N steps at an integer stride from 0 (Song et al. 2021). An empty string keeps all.
///
/// # Errors
/// A string that is neither, a section with fewer steps than asked of it, no step at all, a stride that does not exist.
pub fn space_timesteps(steps: usize, spec: &str) -> Result<Vec<usize>> {
    let refuse = |why: String| Error::Respacing {
        spec: spec.into(),
        steps,
        why,
    };
    let count = |text: &str| {
        let bad = |_| refuse(format!("{text:?} is not a count"));
        text.trim().parse::<usize>().map_err(bad)
    };
    if spec.trim().is_empty() {
        return match steps {
            0 => Err(refuse("there are no steps to keep".into())),
            _ => Ok((0..steps).collect()),
        };
    }
    if let Some(wanted) = spec.strip_prefix("ddim") {
        let wanted = count(wanted)?;
        let stride = (1..steps).find(|stride| steps.div_ceil(*stride) == wanted);
        let stride = stride
            .ok_or_else(|| refuse(format!("no integer stride gives exactly {wanted} steps")))?;
        return Ok((0..steps).step_by(stride).collect());
    }
    let counts = spec.split(',').map(count).collect::<Result<Vec<usize>>>()?;
    let (size, extra) = (steps / counts.len(), steps % counts.len());
    let (mut start, mut kept) = (0, Vec::new());
    for (i, &wanted) in counts.iter().enumerate() {
        let size = size + usize::from(i < extra);
        if size < wanted {
            return Err(refuse(format!(
                "section {i} has {size} steps, {wanted} are asked of it"
            )));
        }
        let stride = if wanted > 1 {
            (size - 1) as f64 / (wanted - 1) as f64
        } else {
            1.0
        };
        // Summed up rather than multiplied, and halves to even: the ties of the published checkpoints' grids.
        let mut at = 0f64;
        for _ in 0..wanted {
            kept.push(start + at.round_ties_even() as usize);
            at += stride;
        }
        start += size;
    }
    kept.dedup();
    match kept.is_empty() {
        true => Err(refuse("it keeps no step".into())),
        false => Ok(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_strides() {
        assert_eq!(space_timesteps(10, "5").unwrap(), [0, 2, 4, 7, 9]);
        assert_eq!(space_timesteps(10, "ddim5").unwrap(), [0, 2, 4, 6, 8]);
        assert_eq!(space_timesteps(10, "3,2").unwrap(), [0, 2, 4, 5, 9]);
        assert_eq!(space_timesteps(7, "1,1").unwrap(), [0, 4]);
        assert_eq!(space_timesteps(4, "").unwrap(), [0, 1, 2, 3]);
        assert_eq!(space_timesteps(300, "10,15,20").unwrap().len(), 45);
    }

    #[test]
    fn wrong_strings_say_why() {
        for (steps, spec, why) in [
            (1000, "fast", "\"fast\" is not a count"),
            (1000, "ddim", "\"\" is not a count"),
            (1000, "ddim999", "no integer stride"),
            (10, "11", "10 steps, 11 are asked"),
            (10, "5,6", "section 1 has 5"),
            (10, "0", "no step"),
            (10, "-1", "not a count"),
            (0, "", "no steps"),
        ] {
            let e = space_timesteps(steps, spec).unwrap_err().to_string();
            assert!(e.contains(why) && e.contains(spec), "{e}");
        }
    }
}
