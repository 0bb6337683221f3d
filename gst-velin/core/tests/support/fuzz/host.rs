//! What a URI or a trust file says about a peer: where it is, since when it is trusted, and for what.

use velin_core::identity::{Grant, Grants, PeerHost, WallTime};

/// What parses is printed as something that parses to the same.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<PeerHost>() {
        Ok(host) => {
            assert!((1..=PeerHost::MAX_BYTES).contains(&host.host().len()));
            assert_ne!(host.port(), Some(0));
            super::assert_printable(&host);
            assert_eq!(host.to_string().parse(), Ok(host));
        }
        Err(e) => super::assert_printable(&e),
    }
    match text.parse::<WallTime>() {
        Ok(time) => assert_eq!(time.to_string().parse(), Ok(time)),
        Err(e) => super::assert_printable(&e),
    }
    match text.parse::<Grants>() {
        Ok(grants) => {
            let words: Vec<_> = grants.iter().map(Grant::word).collect();
            let each = words.iter().map(|word| word.parse::<Grant>().expect("our own word"));
            assert_eq!(each.collect::<Grants>(), grants);
        }
        Err(e) => super::assert_printable(&e),
    }
}
