//! How much of what was written a TCP connection has not sent yet.

/// Bytes that the program wrote to `socket` and TCP has not sent even once: they wait for the peer's
/// window or for the path. What is under way and not acknowledged does not count.
///
/// Together with the rate of the stream it is the delay that the socket adds. `None` where the
/// system does not tell: everywhere but on Linux (SIOCOUTQNSD, since 2.6.39), and for anything that
/// is no TCP connection.
#[cfg(target_os = "linux")]
pub(crate) fn unsent(socket: impl std::os::fd::AsFd) -> Option<usize> {
    use std::ffi::c_int;

    use rustix::ioctl::{Getter, Opcode, ioctl};

    /// `linux/sockios.h`; the same on every architecture.
    const SIOCOUTQNSD: Opcode = 0x894b;

    // SAFETY: SIOCOUTQNSD writes one int through its argument and does nothing else; a socket that
    // does not know it answers with an error.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQNSD, c_int>::new()) }.ok()?;
    usize::try_from(bytes).ok()
}

/// Bytes that the program wrote to `socket` and TCP has not sent even once. This system does not
/// tell.
#[cfg(not(target_os = "linux"))]
pub(crate) fn unsent<S>(_socket: S) -> Option<usize> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn what_the_peer_does_not_take_is_counted_until_it_does() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut reader, _) = listener.accept().unwrap();
        assert_eq!(unsent(&writer), Some(0));
        writer.set_nonblocking(true).unwrap();
        let mut written = 0;
        let error = loop {
            match writer.write(&[0; 64 * 1024]) {
                Ok(n) => written += n,
                Err(e) => break e,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let waiting = unsent(&writer).unwrap();
        assert!(waiting > 0 && waiting < written, "{waiting} of {written}");
        let mut buffer = vec![0; 64 * 1024];
        let mut read = 0;
        while read < written {
            read += reader.read(&mut buffer).unwrap();
        }
        assert_eq!(unsent(&writer), Some(0));
    }

    #[test]
    fn other_sockets_do_not_tell() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(unsent(&file), None);
        // Whatever a kernel says about UDP, it is no error to ask.
        let _ = unsent(UdpSocket::bind("127.0.0.1:0").unwrap());
    }
}
