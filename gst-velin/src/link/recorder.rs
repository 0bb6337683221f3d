//! Writes down when the blocks of a stream arrive, for `velin-pipe simulate`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use velin_core::playout::{Trace, TraceDrain, TraceTap, trace_ring};

/// Blocks between the receive thread and the disk: four seconds of the shortest.
const ROOM: usize = 16_384;
/// How often the disk gets what there is.
const PACE: Duration = Duration::from_millis(50);

/// Why a recording cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file.
    #[error("The trace file {} cannot be written: {source}. Set trace-file to a file in a folder that may be written", path.display())]
    Create {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread that writes.
    #[error("No thread can be started for the trace file: {0}. Free some, or unset trace-file")]
    Thread(io::Error),
}

/// What a recording came to.
#[derive(Debug)]
pub struct Recorded {
    /// Blocks in the file.
    pub blocks: u64,
    /// Blocks that the disk was too slow for.
    pub dropped: u64,
    /// Why it ended early.
    pub error: Option<io::Error>,
}

/// Begins a recording in a new file at `path`, or in place of what is there. It ends when the tap
/// is dropped; then `end` is called, on the thread that wrote.
///
/// The file is created here, so that a wrong path is told at once; everything else is done by a
/// thread of its own.
pub fn record(
    path: &Path,
    end: impl FnOnce(Recorded) + Send + 'static,
) -> Result<TraceTap, RecordError> {
    let failed = |source| RecordError::Create { path: path.to_owned(), source };
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    writeln!(file, "{}", Trace::HEADER).and_then(|()| file.flush()).map_err(failed)?;
    let (tap, drain) = trace_ring(ROOM);
    let write = move || end(write(file, drain));
    std::thread::Builder::new()
        .name("velin-trace".into())
        .spawn(write)
        .map_err(RecordError::Thread)?;
    Ok(tap)
}

fn write(mut file: impl Write, mut drain: TraceDrain) -> Recorded {
    let mut blocks = 0;
    let mut run = || -> io::Result<()> {
        loop {
            let over = drain.is_over();
            while let Some(block) = drain.next() {
                writeln!(file, "{block}")?;
                blocks += 1;
            }
            if over {
                let dropped = drain.dropped();
                writeln!(file, "# end: {blocks} blocks, {dropped} not recorded")?;
                return file.flush();
            }
            file.flush()?;
            std::thread::sleep(PACE);
        }
    };
    let error = run().err();
    Recorded { blocks, dropped: drain.dropped(), error }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_recording_that_nothing_came_for_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.csv");
        let (tell, told) = channel();
        let tap = record(&path, move |recorded| tell.send(recorded).unwrap()).unwrap();
        drop(tap);
        let recorded = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!((recorded.blocks, recorded.dropped), (0, 0));
        assert!(recorded.error.is_none());
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, "arrival_ns,media_ns\n# end: 0 blocks, 0 not recorded\n");
    }

    #[test]
    fn a_full_disk_ends_the_recording_and_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (tap, drain) = trace_ring(4);
        drop(tap);
        assert_eq!(write(Full, drain).error.unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = record(Path::new("/nosuch/trace.csv"), |_| ()).unwrap_err().to_string();
        assert!(error.contains("/nosuch/trace.csv") && error.contains("trace-file"), "{error}");
    }
}
