//! Which share of the blocks is lost in its first packet, and in what runs.

/// How far back a first packet may still come before its block is judged, in blocks.
const WINDOW: u64 = 1024;
const HALF_LIFE_NS: f64 = 10e9;
/// The first loss of a stream is one among so many blocks.
const PRIOR_NS: i64 = 2_000_000_000;
/// As if so many blocks had been lost alone before.
const SINGLE: f64 = 32.0;

/// Loss before repair.
#[derive(Debug)]
pub(super) struct Loss {
    /// Which of the last [`WINDOW`] blocks came in their first packet.
    firsts: [u64; (WINDOW / 64) as usize],
    /// Every block before this one has been judged.
    judged: u64,
    highest: Option<u64>,
    total: f64,
    lost: f64,
    runs: f64,
    /// Per block.
    decay: f64,
    /// The block before `judged` was lost.
    in_run: bool,
    last: Option<i64>,
}

impl Loss {
    pub(super) fn new(block_ns: i64) -> Self {
        Self {
            firsts: [0; (WINDOW / 64) as usize],
            judged: 0,
            highest: None,
            total: (PRIOR_NS / block_ns.max(1)) as f64,
            lost: 0.0,
            runs: 0.0,
            decay: (-(block_ns as f64) / HALF_LIFE_NS).exp2(),
            in_run: false,
            last: None,
        }
    }

    /// The numbers start anew.
    pub(super) fn restart(&mut self) {
        self.highest = None;
        self.in_run = false;
    }

    /// A block came.
    pub(super) fn came(&mut self, index: u64, first_packet: bool) {
        match self.highest {
            None => {
                self.judged = index;
                self.highest = Some(index);
                self.set(index, first_packet);
            }
            Some(highest) if index > highest => {
                if index - highest >= WINDOW {
                    self.judged = index;
                } else {
                    (highest + 1..index).for_each(|i| self.set(i, false));
                }
                self.judged = self.judged.max((index + 1).saturating_sub(WINDOW));
                self.highest = Some(index);
                self.set(index, first_packet);
            }
            Some(highest) => {
                if first_packet && index + WINDOW > highest {
                    // It was only late.
                    if index < self.judged && !self.has_first(index) {
                        self.lost = (self.lost - 1.0).max(0.0);
                        self.runs = (self.runs - 1.0).clamp(0.0, self.lost);
                        self.last = self.last.filter(|_| self.lost > 0.5);
                    }
                    self.set(index, true);
                }
            }
        }
    }

    /// Whether the block came in its first packet, as far as is known.
    pub(super) fn has_first(&self, index: u64) -> bool {
        self.firsts[(index % WINDOW / 64) as usize] & 1 << (index % 64) != 0
    }

    /// First packets before `index` come no more. Gives how many more are lost.
    pub(super) fn judge(&mut self, now: i64, index: u64) -> u64 {
        let end = index.min(self.highest.map_or(0, |h| h + 1));
        let mut more = 0;
        while self.judged < end {
            let lost = !self.has_first(self.judged);
            self.total = self.total * self.decay + 1.0;
            self.lost *= self.decay;
            self.runs *= self.decay;
            if lost {
                self.lost += 1.0;
                self.runs += f64::from(u8::from(!self.in_run));
                self.last = Some(now);
                more += 1;
            }
            self.in_run = lost;
            self.judged += 1;
        }
        more
    }

    /// The share lost in the first packet.
    pub(super) fn share(&self) -> f64 {
        self.lost / self.total.max(1.0)
    }

    /// The share of blocks with which a run of lost ones began.
    pub(super) fn events(&self) -> f64 {
        self.runs / self.total.max(1.0)
    }

    /// Blocks lost in a row, on average; 1 while nothing is lost, and for long: one burst makes no
    /// path a bursty one.
    pub(super) fn run(&self) -> f64 {
        ((self.lost + SINGLE) / (self.runs + SINGLE)).max(1.0)
    }

    /// When a block was last found lost.
    pub(super) fn last(&self) -> Option<i64> {
        self.last
    }

    fn set(&mut self, index: u64, first_packet: bool) {
        let word = &mut self.firsts[(index % WINDOW / 64) as usize];
        let bit = 1 << (index % 64);
        *word = if first_packet { *word | bit } else { *word & !bit };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: i64 = 2_500_000;

    fn fed(came: impl Fn(u64) -> bool) -> Loss {
        let mut loss = Loss::new(BLOCK);
        for i in 0..40_000 {
            if came(i) {
                loss.came(i, true);
            }
            loss.judge(i as i64, i.saturating_sub(4));
        }
        loss
    }

    #[test]
    fn share_and_runs_are_measured() {
        let loss = fed(|i| i % 20 != 0);
        assert!((loss.share() - 0.05).abs() < 0.005, "{}", loss.share());
        assert!((loss.run() - 1.0).abs() < 0.01, "{}", loss.run());
        let loss = fed(|i| i % 60 > 2);
        assert!((loss.share() - 0.05).abs() < 0.005, "{}", loss.share());
        assert!((loss.run() - 3.0).abs() < 0.8, "{}", loss.run());
    }

    #[test]
    fn a_retransmission_does_not_hide_the_loss_and_a_late_first_packet_is_none() {
        let mut loss = Loss::new(BLOCK);
        for i in [0, 1, 3, 4, 6] {
            loss.came(i, true);
        }
        loss.came(2, false);
        loss.came(5, true);
        assert_eq!(loss.judge(7, 7), 1);
        assert_eq!(loss.last(), Some(7));
        assert_eq!(loss.judge(8, 9), 0);
    }

    #[test]
    fn a_block_that_was_only_late_is_not_lost() {
        let mut loss = Loss::new(BLOCK);
        for i in 0..10_000_u64 {
            if i % 10 != 0 {
                loss.came(i, true);
            }
            loss.judge(i as i64, i.saturating_sub(4));
            // Six blocks late, after it was given up.
            if i > 10 && i % 10 == 6 {
                loss.came(i - 6, true);
            }
        }
        assert!(loss.share() < 0.001, "{}", loss.share());
        assert!(loss.run() < 1.01, "{}", loss.run());
    }

    #[test]
    fn a_leap_and_a_restart_are_no_loss() {
        let mut loss = fed(|_| true);
        loss.came(10_000_000, true);
        assert_eq!(loss.judge(0, 10_000_001), 0);
        loss.restart();
        loss.came(3, true);
        loss.came(4, true);
        assert_eq!(loss.judge(0, 5), 0);
        assert_eq!(loss.share(), 0.0);
    }
}
