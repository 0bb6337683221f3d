//! Order statistics.

/// Values, sorted on demand.
#[derive(Debug, Default)]
pub(crate) struct Values(Vec<f32>);

impl Values {
    pub(crate) fn with_capacity(n: usize) -> Self {
        Self(Vec::with_capacity(n))
    }

    pub(crate) fn push(&mut self, value: f32) {
        self.0.push(value);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Median, 99th percentile and maximum; zeroes without values.
    pub(crate) fn summary(mut self) -> Summary {
        self.0.sort_unstable_by(f32::total_cmp);
        let at = |q: f64| {
            let last = self.0.len().saturating_sub(1);
            self.0.get((last as f64 * q).round() as usize).copied().unwrap_or_default()
        };
        Summary { median: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

impl FromIterator<f32> for Values {
    fn from_iter<I: IntoIterator<Item = f32>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// What a table shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) median: f32,
    pub(crate) p99: f32,
    pub(crate) max: f32,
}
