/// `R_k = c_k² / S(Σc²) · R`.
pub fn square_ratio(contributions: &[ArrayD<f64>], relevance: &ArrayD<f64>, epsilon: f64) -> Split {
    let squares: Vec<ArrayD<f64>> = contributions.iter().map(|c| c * c).collect();
    ratio(contributions, &squares, relevance, epsilon)
}
