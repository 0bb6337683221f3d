//! The last samples of something that goes on and on.

/// The last samples, in one piece.
#[derive(Debug)]
pub(super) struct Recent {
    /// Twice as long as what is kept, so that samples are moved once in a while only.
    samples: Box<[f32]>,
    keep: usize,
    end: usize,
}

impl Recent {
    /// Keeps `keep` samples, at least one, zeros at first.
    pub(super) fn new(keep: usize) -> Self {
        let keep = keep.max(1);
        Self { samples: vec![0.0; 2 * keep].into(), keep, end: keep }
    }

    /// All that is kept, oldest first.
    pub(super) fn all(&self) -> &[f32] {
        &self.samples[self.end - self.keep..self.end]
    }

    pub(super) fn push(&mut self, new: &[f32]) {
        let new = &new[new.len().saturating_sub(self.keep)..];
        self.make_room(new.len());
        self.samples[self.end..self.end + new.len()].copy_from_slice(new);
        self.end += new.len();
    }

    /// Lets at most `keep` more samples follow without moving any.
    fn make_room(&mut self, n: usize) {
        if self.end + n > self.samples.len() {
            let kept = self.keep - n;
            self.samples.copy_within(self.end - kept..self.end, 0);
            self.end = kept;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_samples_are_kept_whatever_the_pieces() {
        for piece in [1, 3, 7, 10, 11, 40] {
            let mut recent = Recent::new(10);
            let all: Vec<f32> = (0..100).map(|i| i as f32).collect();
            let mut pushed = vec![0.0; 10];
            for new in all.chunks(piece) {
                recent.push(new);
                pushed.extend_from_slice(new);
                assert_eq!(recent.all(), &pushed[pushed.len() - 10..], "{piece}");
            }
        }
    }
}
