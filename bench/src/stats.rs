//! Order statistics.

/// Samples in ascending order.
#[derive(Clone, Debug)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Sorts `samples`.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(mut samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "no samples");
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    /// The smallest sample that at least the share `q` (0 to 1) of all does not exceed.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = (q * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    /// Half of all samples are no larger.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// 99 of 100 samples are no larger.
    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self::new(samples.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_of_that_rank() {
        let samples: Samples = (1..=200).rev().map(f64::from).collect();
        let found = [samples.median(), samples.p99(), samples.quantile(1.0)];
        assert_eq!(found.map(|x| x as u32), [100, 198, 200]);
    }
}
