//! Eigenvalues of a symmetric 3 x 3 matrix: the covariance of three bands at one frequency, or of three channels.

/// Eigenvalues and their unit eigenvectors, by Jacobi's rotations: accurate also for small eigenvalues of positive
/// definite matrices.
///
/// ```
/// let [(a, _), (b, _), (c, e)] = score_sde::theory::eigen([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 5.0]]);
/// assert!((a * b - 3.0).abs() < 1e-12 && c == 5.0 && e == [0.0, 0.0, 1.0]);
/// ```
pub fn eigen(mut a: [[f64; 3]; 3]) -> [(f64, [f64; 3]); 3] {
    let mut v = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    // Each sweep squares what is left beside the diagonal: five or six are enough.
    for _ in 0..12 {
        let mut rest = false;
        for (p, q, r) in [(0, 1, 2), (0, 2, 1), (1, 2, 0)] {
            if a[p][q].abs() <= 1e-17 * (a[p][p] * a[q][q]).abs().sqrt() {
                continue;
            }
            rest = true;
            let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
            let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
            let c = 1.0 / t.hypot(1.0);
            let s = t * c;
            (a[p][p], a[q][q]) = (a[p][p] - t * a[p][q], a[q][q] + t * a[p][q]);
            (a[p][q], a[q][p]) = (0.0, 0.0);
            let (rp, rq) = (c * a[r][p] - s * a[r][q], s * a[r][p] + c * a[r][q]);
            (a[r][p], a[p][r], a[r][q], a[q][r]) = (rp, rp, rq, rq);
            for row in &mut v {
                (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
            }
        }
        if !rest {
            break;
        }
    }
    [0, 1, 2].map(|i| (a[i][i], [v[0][i], v[1][i], v[2][i]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_are_orthonormal_and_give_the_matrix_back() {
        for (scale, d) in [(1.0, 0.3), (1e-6, 1e-8), (1e3, -2.0)] {
            let a = [
                [2.0 * scale, d, 0.5 * d],
                [d, 1.0, -0.4 * d],
                [0.5 * d, -0.4 * d, 3.0],
            ];
            let pairs = eigen(a);
            for (i, row) in a.iter().enumerate() {
                for (j, want) in row.iter().enumerate() {
                    let got: f64 = pairs.iter().map(|(l, e)| l * e[i] * e[j]).sum();
                    assert!((got - want).abs() < 1e-12 * scale.max(3.0), "{got} {want}");
                    let dot: f64 = (0..3).map(|k| pairs[i].1[k] * pairs[j].1[k]).sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-14);
                }
            }
        }
    }
}
