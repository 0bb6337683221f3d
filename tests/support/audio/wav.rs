//! WAV files, reading and writing: PCM of 16, 24 and 32 bits and 32-bit float. The reader also takes
//! recordings that were cut off, whose header never learned their length.

use std::fs;
use std::io;
use std::path::Path;

use thiserror::Error;

use super::Clip;

impl Clip {
    /// Reads a WAV file.
    ///
    /// # Errors
    /// The file cannot be read or is no WAV file of a kind this knows.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, WavError> {
        let path = path.as_ref();
        let bytes = fs::read(path)
            .map_err(|source| WavError::Io { path: path.display().to_string(), source })?;
        Self::from_wav(&bytes)
    }

    /// Writes a WAV file of 32-bit float samples.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), WavError> {
        let data: Vec<u8> = self.samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        self.write_data(path.as_ref(), FORMAT_FLOAT, 4, &data)
    }

    /// Writes a WAV file of 16-bit samples, rounded and clipped.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_16(&self, path: impl AsRef<Path>) -> Result<(), WavError> {
        let quantise = |s: &f32| (s * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
        let data: Vec<u8> = self.samples.iter().flat_map(|s| quantise(s).to_le_bytes()).collect();
        self.write_data(path.as_ref(), FORMAT_PCM, 2, &data)
    }

    /// Parses the bytes of a WAV file.
    ///
    /// # Errors
    /// It is no WAV file of a kind this knows.
    pub fn from_wav(bytes: &[u8]) -> Result<Self, WavError> {
        if bytes.get(..4) != Some(b"RIFF") || bytes.get(8..12) != Some(b"WAVE") {
            return Err(WavError::NotWav);
        }
        let mut format = None;
        let mut rest = &bytes[12..];
        while let Some((head, body)) = rest.split_at_checked(8) {
            let length = le32(head, 4).ok_or(WavError::NotWav)? as usize;
            if &head[..4] == b"data" {
                let format: Format = format.ok_or(WavError::NoFormat)?;
                // A cut-off recording claims 0 or far too much: then everything is data.
                let length = if length == 0 { body.len() } else { length.min(body.len()) };
                return format.decode(&body[..length]);
            }
            let body = body.get(..length).ok_or(WavError::NotWav)?;
            if &head[..4] == b"fmt " {
                format = Some(Format::parse(body)?);
            }
            rest = rest.get(8 + length + length % 2..).unwrap_or_default();
        }
        Err(WavError::NoData)
    }

    fn write_data(&self, path: &Path, tag: u16, width: u16, data: &[u8]) -> Result<(), WavError> {
        let channels = u16::try_from(self.channels).unwrap_or(u16::MAX);
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut file = Vec::with_capacity(44 + data.len());
        file.extend_from_slice(b"RIFF");
        file.extend_from_slice(&length.saturating_add(36).to_le_bytes());
        file.extend_from_slice(b"WAVEfmt ");
        file.extend_from_slice(&16_u32.to_le_bytes());
        file.extend_from_slice(&tag.to_le_bytes());
        file.extend_from_slice(&channels.to_le_bytes());
        file.extend_from_slice(&self.rate.to_le_bytes());
        file.extend_from_slice(&(self.rate * u32::from(channels * width)).to_le_bytes());
        file.extend_from_slice(&(channels * width).to_le_bytes());
        file.extend_from_slice(&(width * 8).to_le_bytes());
        file.extend_from_slice(b"data");
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(data);
        fs::write(path, file)
            .map_err(|source| WavError::Io { path: path.display().to_string(), source })
    }
}

/// Why a WAV file could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WavError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// There are no samples.
    #[error("the WAV file has no data chunk: the recording never began")]
    NoData,
    /// The samples come before their format.
    #[error("the WAV file does not say what its samples are")]
    NoFormat,
    /// Something else.
    #[error("this is not a WAV file")]
    NotWav,
    /// A sample format this reader does not know.
    #[error("WAV format {tag:#06x} with {bits} bits is not supported; use PCM or 32-bit float")]
    Unsupported {
        /// The format tag.
        tag: u16,
        /// Bits per sample.
        bits: u16,
    },
}

// Registered format tags (RFC 2361, and WAVEFORMATEXTENSIBLE).
const FORMAT_PCM: u16 = 0x0001;
const FORMAT_FLOAT: u16 = 0x0003;
const FORMAT_EXTENSIBLE: u16 = 0xfffe;

#[derive(Clone, Copy)]
struct Format {
    rate: u32,
    channels: usize,
    sample: Sample,
}

#[derive(Clone, Copy)]
enum Sample {
    S16,
    S24,
    S32,
    F32,
}

impl Format {
    fn parse(body: &[u8]) -> Result<Self, WavError> {
        let mut tag = le16(body, 0).ok_or(WavError::NoFormat)?;
        let channels = le16(body, 2).ok_or(WavError::NoFormat)?;
        let rate = le32(body, 4).ok_or(WavError::NoFormat)?;
        let bits = le16(body, 14).ok_or(WavError::NoFormat)?;
        if tag == FORMAT_EXTENSIBLE {
            // The first two bytes of the sub-format's GUID are the plain tag.
            tag = le16(body, 24).ok_or(WavError::NoFormat)?;
        }
        if channels == 0 || rate == 0 {
            return Err(WavError::NoFormat);
        }
        let sample = match (tag, bits) {
            (FORMAT_PCM, 16) => Sample::S16,
            (FORMAT_PCM, 24) => Sample::S24,
            (FORMAT_PCM, 32) => Sample::S32,
            (FORMAT_FLOAT, 32) => Sample::F32,
            _ => return Err(WavError::Unsupported { tag, bits }),
        };
        Ok(Self { rate, channels: channels.into(), sample })
    }

    fn decode(self, data: &[u8]) -> Result<Clip, WavError> {
        let mut samples: Vec<f32> = match self.sample {
            Sample::S16 => {
                let (chunks, _) = data.as_chunks::<2>();
                chunks.iter().map(|&b| f32::from(i16::from_le_bytes(b)) / 32_768.0).collect()
            }
            Sample::S24 => {
                let (chunks, _) = data.as_chunks::<3>();
                let wide = |b: [u8; 3]| i32::from_le_bytes([0, b[0], b[1], b[2]]);
                chunks.iter().map(|&b| wide(b) as f32 / 2_147_483_648.0).collect()
            }
            Sample::S32 => {
                let (chunks, _) = data.as_chunks::<4>();
                chunks.iter().map(|&b| i32::from_le_bytes(b) as f32 / 2_147_483_648.0).collect()
            }
            Sample::F32 => {
                let (chunks, _) = data.as_chunks::<4>();
                chunks.iter().map(|&b| f32::from_le_bytes(b)).collect()
            }
        };
        samples.truncate(samples.len() / self.channels * self.channels);
        Ok(Clip { rate: self.rate, channels: self.channels, samples })
    }
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip() -> Clip {
        Clip { rate: 48_000, channels: 2, samples: vec![0.0, 0.5, -1.0, 0.25, 0.75, -0.5] }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wav");
        clip().write(&path).unwrap();
        assert_eq!(Clip::read(&path).unwrap(), clip());
        clip().write_16(&path).unwrap();
        assert_eq!(Clip::read(&path).unwrap(), clip());
    }

    #[test]
    fn a_recording_that_was_cut_off_is_read_to_its_last_whole_frame() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wav");
        clip().write(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        for claimed in [0_u32, u32::MAX] {
            bytes[40..44].copy_from_slice(&claimed.to_le_bytes());
            let cut = Clip::from_wav(&bytes[..bytes.len() - 3]).unwrap();
            assert_eq!(cut.samples, clip().samples[..4]);
        }
    }

    #[test]
    fn other_files_are_refused() {
        assert!(matches!(Clip::from_wav(b"OggS"), Err(WavError::NotWav)));
        assert!(matches!(Clip::from_wav(b"RIFF\0\0\0\0WAVE"), Err(WavError::NoData)));
        assert!(matches!(Clip::read("/nonexistent.wav"), Err(WavError::Io { .. })));
    }
}
