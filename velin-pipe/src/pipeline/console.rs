//! What people see on stderr while a preset runs: lines, and below them one that is alive.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the live line is drawn on a terminal.
const LIVE: Duration = Duration::from_millis(500);
/// How often it is printed where there is no terminal.
const PLAIN: Duration = Duration::from_secs(10);
/// A message that repeats within this time is not printed again.
const REPEAT: Duration = Duration::from_secs(5);

/// Writes lines, and one live line where there is a terminal.
pub(super) struct Console {
    terminal: bool,
    drawn: bool,
    every: Duration,
    next: Instant,
    last_line: Option<(String, Instant)>,
    out: Box<dyn Write>,
}

impl Console {
    /// On stderr, with the live line `every` so often.
    pub(super) fn new(every: Option<Duration>, now: Instant) -> Self {
        Self::on(Box::new(io::stderr()), io::stderr().is_terminal(), every, now)
    }

    fn on(out: Box<dyn Write>, terminal: bool, every: Option<Duration>, now: Instant) -> Self {
        let every = every.unwrap_or(if terminal { LIVE } else { PLAIN });
        Self { terminal, drawn: false, every, next: now + every, last_line: None, out }
    }

    /// A line that stays. The same one again within five seconds is left out.
    pub(super) fn line(&mut self, text: &str, now: Instant) {
        if let Some((last, at)) = &self.last_line
            && last == text
            && now.duration_since(*at) < REPEAT
        {
            return;
        }
        self.clear();
        // Some of the words are a peer's: none of them may command the terminal.
        let shown = text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}");
        // Nobody to tell when stderr is gone.
        let _ = writeln!(self.out, "{shown}");
        self.last_line = Some((text.to_owned(), now));
    }

    /// Whether the live line is due; then it will be again after a while.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.every;
        true
    }

    /// The live line.
    pub(super) fn live(&mut self, text: &str) {
        if self.terminal {
            let _ = write!(self.out, "\r\x1b[K{text}");
            self.drawn = true;
        } else {
            let _ = writeln!(self.out, "{text}");
        }
        let _ = self.out.flush();
    }

    /// Takes the live line away.
    pub(super) fn clear(&mut self) {
        if self.drawn {
            let _ = write!(self.out, "\r\x1b[K");
            let _ = self.out.flush();
            self.drawn = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(paper: &Paper) -> String {
        String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_terminal_has_one_line_that_moves_and_lines_that_stay() {
        let (paper, now) = (Paper::default(), Instant::now());
        let mut console = Console::on(Box::new(paper.clone()), true, None, now);
        assert!(!console.is_due(now + Duration::from_millis(499)));
        assert!(console.is_due(now + LIVE));
        assert!(!console.is_due(now + LIVE));
        console.live("one");
        console.live("two");
        console.line("said", now);
        assert_eq!(printed(&paper), "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[Ksaid\n");
    }

    #[test]
    fn without_a_terminal_there_are_no_control_characters_and_fewer_lines() {
        let (paper, now) = (Paper::default(), Instant::now());
        let mut console = Console::on(Box::new(paper.clone()), false, None, now);
        assert!(!console.is_due(now + Duration::from_secs(9)));
        assert!(console.is_due(now + PLAIN));
        console.live("one");
        console.clear();
        assert_eq!(printed(&paper), "one\n");
    }

    #[test]
    fn the_same_line_again_is_not_news() {
        let (paper, now) = (Paper::default(), Instant::now());
        let mut console = Console::on(Box::new(paper.clone()), false, None, now);
        console.line("lost", now);
        console.line("lost", now + Duration::from_secs(1));
        console.line("lost", now + Duration::from_secs(6));
        assert_eq!(printed(&paper), "lost\nlost\n");
    }

    #[test]
    fn the_live_line_comes_as_often_as_asked() {
        let (paper, now) = (Paper::default(), Instant::now());
        let every = Duration::from_secs(1);
        let mut console = Console::on(Box::new(paper), false, Some(every), now);
        assert!(!console.is_due(now));
        assert!(console.is_due(now + every));
        assert!(!console.is_due(now + every));
    }

    #[test]
    fn words_from_elsewhere_do_not_command_the_terminal() {
        let (paper, now) = (Paper::default(), Instant::now());
        let mut console = Console::on(Box::new(paper.clone()), true, None, now);
        console.line("evil\x1b[2J\rname", now);
        assert_eq!(printed(&paper), "evil\u{fffd}[2J\u{fffd}name\n");
    }
}
