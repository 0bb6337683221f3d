//! Recorded networks: when each block of a stream arrived.
//!
//! A trace is text, one block to a line, in the order of arrival:
//!
//! ```text
//! # what it is
//! arrival_ns,media_ns
//! 1000000,0
//! 3517242,2500000
//! ```
//!
//! `arrival_ns` is the receiver's monotonic clock, `media_ns` where the block's first frame lies in
//! the stream by the sender's clock. Only differences mean anything, so each may begin anywhere.
//! Lines that begin with `#` and empty lines mean nothing; a first line with the names of the
//! columns may be there. Blocks that came again or as a repair do not belong in a trace.
//!
//! [`simulate`](fn@super::simulate) plays one.

use std::fmt;
use std::time::Duration;

/// Most bytes of a trace: a day of 2.5 ms blocks is longer, and nobody looks at that.
pub const MAX_TRACE_BYTES: usize = 256 << 20;
/// Most blocks in a trace.
pub const MAX_TRACE_BLOCKS: usize = 8_000_000;
/// The longest trace, by its arrivals.
pub const MAX_TRACE_LENGTH: Duration = Duration::from_secs(86_400);
/// Digits in the largest number: below it, sums of two fit 64 bits, signed.
const MAX_NANOS: u64 = 4_000_000_000_000_000_000;

/// A block that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedBlock {
    /// The receiver's monotonic clock at its arrival, ns.
    pub arrival_ns: u64,
    /// Where its first frame lies in the stream, ns.
    pub media_ns: u64,
}

/// As a line of a trace, without its end.
impl fmt::Display for TracedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.arrival_ns, self.media_ns)
    }
}

/// At least two blocks in the order of their arrival, within [`MAX_TRACE_LENGTH`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace(Vec<TracedBlock>);

impl Trace {
    /// The names of the columns, as the first line of a trace.
    pub const HEADER: &str = "arrival_ns,media_ns";

    /// A trace of these blocks, in any order.
    pub fn new(mut blocks: Vec<TracedBlock>) -> Result<Self, TraceError> {
        blocks.sort_by_key(|block| block.arrival_ns);
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Err(TraceError::Short { blocks: 0 });
        };
        if blocks.len() < 2 {
            return Err(TraceError::Short { blocks: 1 });
        }
        let length = Duration::from_nanos(last.arrival_ns - first.arrival_ns);
        if length > MAX_TRACE_LENGTH {
            return Err(TraceError::Long { length });
        }
        Ok(Self(blocks))
    }

    /// Reads a trace.
    ///
    /// ```
    /// use velin_core::playout::Trace;
    ///
    /// let trace = Trace::parse(b"arrival_ns,media_ns\n1000000,0\n3517242,2500000\n")?;
    /// assert_eq!(trace.blocks()[1].media_ns, 2_500_000);
    ///
    /// let error = Trace::parse(b"# two columns\n1000000,0\n3517242;2500000\n").unwrap_err();
    /// assert_eq!(error.line(), Some(3));
    /// # Ok::<(), velin_core::playout::TraceError>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<Self, TraceError> {
        if bytes.len() > MAX_TRACE_BYTES {
            return Err(TraceError::TooManyBytes { bytes: bytes.len() });
        }
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let mut blocks = Vec::new();
        let mut header_may_come = true;
        for (i, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            if std::mem::take(&mut header_may_come) && line[0].is_ascii_alphabetic() {
                continue;
            }
            if blocks.len() == MAX_TRACE_BLOCKS {
                return Err(TraceError::TooManyBlocks { line: i + 1 });
            }
            blocks.push(block(line, i + 1)?);
        }
        Self::new(blocks)
    }

    /// The blocks, in the order of their arrival.
    pub fn blocks(&self) -> &[TracedBlock] {
        &self.0
    }

    /// From the first arrival to the last.
    pub fn length(&self) -> Duration {
        let [first, .., last] = self.0.as_slice() else { return Duration::ZERO };
        Duration::from_nanos(last.arrival_ns - first.arrival_ns)
    }

    /// How long a block lasts: the middle one of all steps in media time.
    pub fn packet_time(&self) -> Duration {
        let mut media: Vec<u64> = self.0.iter().map(|block| block.media_ns).collect();
        media.sort_unstable();
        media.dedup();
        let mut steps: Vec<u64> = media.windows(2).map(|pair| pair[1] - pair[0]).collect();
        if steps.is_empty() {
            return Duration::ZERO;
        }
        let middle = steps.len() / 2;
        Duration::from_nanos(*steps.select_nth_unstable(middle).1)
    }
}

/// Why bytes are no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Not two columns.
    #[error(
        "{found} column{} instead of 2; a line of a trace is `arrival ns,media time ns`, such as \
         `3517242,2500000`",
        if *found == 1 { "" } else { "s" }
    )]
    Columns {
        /// Which line, from 1.
        line: usize,
        /// How many columns it has.
        found: usize,
    },
    /// Not a whole number.
    #[error(
        "`{found}` is no {column} in whole nanoseconds; write digits only, at most {MAX_NANOS}"
    )]
    Number {
        /// Which line, from 1.
        line: usize,
        /// What the column holds.
        column: &'static str,
        /// The beginning of what is there, printable.
        found: String,
    },
    /// Too few blocks.
    #[error("there are only {blocks} blocks; a trace has at least 2, better those of a minute")]
    Short {
        /// How many there are.
        blocks: usize,
    },
    /// Too many blocks.
    #[error("there are more than {MAX_TRACE_BLOCKS} blocks; cut the trace into parts")]
    TooManyBlocks {
        /// The first line too many.
        line: usize,
    },
    /// Too many bytes.
    #[error("{bytes} bytes are more than the {MAX_TRACE_BYTES} of the longest trace; cut it")]
    TooManyBytes {
        /// How many there are.
        bytes: usize,
    },
    /// Too much time between the first and the last arrival.
    #[error(
        "{} hours from the first arrival to the last are more than 24; are the arrivals in \
         nanoseconds, and of one recording?",
        length.as_secs() / 3_600
    )]
    Long {
        /// From the first arrival to the last.
        length: Duration,
    },
}

impl TraceError {
    /// The line that is wrong, from 1.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Columns { line, .. }
            | Self::Number { line, .. }
            | Self::TooManyBlocks { line } => Some(*line),
            _ => None,
        }
    }
}

fn block(line: &[u8], number: usize) -> Result<TracedBlock, TraceError> {
    let mut columns = line.split(|byte| *byte == b',');
    let (Some(arrival), Some(media), None) = (columns.next(), columns.next(), columns.next())
    else {
        let found = line.split(|byte| *byte == b',').count();
        return Err(TraceError::Columns { line: number, found });
    };
    Ok(TracedBlock {
        arrival_ns: nanos(arrival, number, "arrival")?,
        media_ns: nanos(media, number, "media time")?,
    })
}

fn nanos(text: &[u8], line: usize, column: &'static str) -> Result<u64, TraceError> {
    let text = text.trim_ascii();
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| digits).and_then(|t| t.parse().ok());
    number.filter(|n| *n <= MAX_NANOS).ok_or_else(|| {
        let found = text.iter().take(24).map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '?',
        });
        TraceError::Number { line, column, found: found.collect() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_headers_spaces_and_line_ends_do_not_matter() {
        let text = b"\xEF\xBB\xBF# wifi\r\n\r\narrival ns, media ns\r\n 20 , 5\r\n10,0\r\n\n#end";
        let block = |arrival_ns, media_ns| TracedBlock { arrival_ns, media_ns };
        assert_eq!(Trace::parse(text).unwrap().blocks(), [block(10, 0), block(20, 5)]);
    }

    #[test]
    fn what_is_written_is_read() {
        let blocks: Vec<_> = (0..100_u64)
            .map(|i| TracedBlock { arrival_ns: 7 + i * 2_500_123, media_ns: i * 2_500_000 })
            .collect();
        let lines: Vec<_> = blocks.iter().map(TracedBlock::to_string).collect();
        let text = format!("{}\n{}\n", Trace::HEADER, lines.join("\n"));
        let trace = Trace::parse(text.as_bytes()).unwrap();
        assert_eq!(trace.blocks(), blocks);
        assert_eq!(trace.packet_time(), Duration::from_micros(2_500));
        assert_eq!(trace.length(), Duration::from_nanos(99 * 2_500_123));
    }

    #[test]
    fn errors_name_the_line_and_what_is_wrong_in_it() {
        let cases: [(&[u8], Option<usize>, &str); 9] = [
            (b"", None, "only 0 blocks"),
            (b"1,2\n", None, "only 1 blocks"),
            (b"1,2\n3\n", Some(2), "1 column instead"),
            (b"a,b\n1,2,3\n", Some(2), "3 columns instead"),
            (b"a,b\nc,d\n", Some(2), "`c` is no arrival"),
            (b"1,2\n3,-4\n", Some(2), "`-4` is no media time"),
            (b"1,2\n\x1b[31m,4\n", Some(2), "`?[31m` is no arrival"),
            (b"1,99999999999999999999999\n", Some(1), "is no media time"),
            (b"1,1\n3000000000000000000,2\n", None, "hours"),
        ];
        for (text, line, says) in cases {
            let error = Trace::parse(text).unwrap_err();
            assert_eq!(error.line(), line, "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
