//! Figures.

/// How often each value came, in steps of 10 µs; ns.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    counts: Vec<u64>,
    count: u64,
    sum: f64,
    squares: f64,
}

const STEP: i64 = 10_000;

impl Distribution {
    pub fn add(&mut self, ns: i64) {
        let step = usize::try_from(ns / STEP).unwrap_or(0).min(1_000_000);
        if self.counts.len() <= step {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
        self.count += 1;
        self.sum += ns as f64;
        self.squares += (ns as f64).powi(2);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn mean_ms(&self) -> f64 {
        self.sum / self.count.max(1) as f64 / 1e6
    }

    /// Standard deviation.
    pub fn deviation_us(&self) -> f64 {
        let n = self.count.max(1) as f64;
        (self.squares / n - (self.sum / n).powi(2)).max(0.0).sqrt() / 1e3
    }

    /// The value that this share stays below.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share) as u64;
        let mut below = 0;
        let place = self.counts.iter().position(|n| {
            below += n;
            below > wanted
        });
        place.unwrap_or(self.counts.len()) as f64 * STEP as f64 / 1e6
    }

    pub fn median_ms(&self) -> f64 {
        self.quantile_ms(0.5)
    }

    pub fn p99_ms(&self) -> f64 {
        self.quantile_ms(0.99)
    }

    pub fn most_ms(&self) -> f64 {
        self.counts.len().saturating_sub(1) as f64 * STEP as f64 / 1e6
    }
}
