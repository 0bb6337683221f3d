//! Older blocks in the packets of later ones.

use super::history::History;
use crate::units::BlockIndex;
use crate::wire::{AUDIO_HEADER, AudioFlags, Copies};

/// Writes those `copies` for `block` to the front of `room` that fit it, as AUDIO frames; gives how
/// many bytes they take. Blocks from `first` on, the first of the packet, are in it already.
pub fn put_copies(
    history: &History,
    copies: Copies,
    block: BlockIndex,
    first: BlockIndex,
    room: &mut [u8],
) -> usize {
    let mut at = 0;
    for distance in copies.distances() {
        let Some(older) = block.0.checked_sub(*distance).map(BlockIndex) else { break };
        if older >= first {
            continue;
        }
        let Some(payload) = room.get_mut(at + AUDIO_HEADER..) else { break };
        let Some((mut header, length)) = history.read(older, payload) else { continue };
        let Ok(encoded) = u16::try_from(length) else { continue };
        header.flags = header.flags.with(AudioFlags::COPY);
        room[at..at + AUDIO_HEADER].copy_from_slice(&header.encode(encoded));
        at += AUDIO_HEADER + length;
    }
    at
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::resend::history;
    use crate::units::{FrameIndex, StreamId};
    use crate::wire::{AudioHeader, Frame, Frames};

    fn copied(copies: Copies, block: u32, room: usize) -> Vec<u32> {
        let (mut writer, kept) = history(100, Duration::from_millis(1));
        for i in 0..=block {
            let (flags, ts) = (AudioFlags::NONE, FrameIndex(u64::from(i) * 48));
            writer.push(&AudioHeader { flags, block: BlockIndex(i), ts }, &[i as u8; 100]);
        }
        let mut packet = vec![0xEE; room];
        let block = BlockIndex(block);
        let n = put_copies(&kept, copies, block, block, &mut packet);
        assert!(n <= room);
        let each = |frame| match frame {
            Ok(Frame::Audio(audio)) => {
                assert!(audio.header.flags.contains(AudioFlags::COPY));
                assert_eq!(audio.payload, [audio.header.block.0 as u8; 100]);
                audio.header.block.0
            }
            other => panic!("{other:?}"),
        };
        Frames::new(StreamId(1), &packet[..n]).map(each).collect()
    }

    #[test]
    fn copies_are_of_the_blocks_that_were_asked_for() {
        assert!(copied(Copies::None, 9, 1_000).is_empty());
        assert_eq!(copied(Copies::Next, 9, 1_000), [8]);
        assert_eq!(copied(Copies::SecondAndFourth, 9, 1_000), [7, 5]);
        assert_eq!(copied(Copies::SecondAndFourth, 3, 1_000), [1]);
        assert!(copied(Copies::Next, 0, 1_000).is_empty());
    }

    #[test]
    fn copies_never_make_a_packet_longer_than_the_peer_takes() {
        for room in 0..400 {
            let n = copied(Copies::SecondAndFourth, 9, room).len();
            assert_eq!(n, (room / (AUDIO_HEADER + 100)).min(2), "{room}");
        }
    }
}
