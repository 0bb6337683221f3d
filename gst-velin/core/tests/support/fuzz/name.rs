//! Names and closing words of peers.

use velin_core::identity::Name;
use velin_core::wire::{CloseCode, CloseReason};

/// What is a name can be printed, is its own normal form, and survives JSON; what typed text becomes
/// is one, too.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Name::new(&text) {
        Ok(name) => {
            assert_eq!(name.as_str(), text);
            whole(&name);
        }
        Err(e) => super::assert_printable(&e),
    }
    match Name::normalized(&text) {
        Ok(name) => whole(&name),
        Err(e) => super::assert_printable(&e),
    }
    if let Ok(name) = serde_json::from_slice::<Name>(data) {
        whole(&name);
    }
    let reason = CloseReason::new(CloseCode::OK, &text);
    assert!(reason.text.len() <= CloseReason::MAX_TEXT);
    super::assert_printable(&reason);
    assert_eq!(CloseReason::new(CloseCode::OK, &reason.text), reason);
}

fn whole(name: &Name) {
    super::assert_printable(name);
    assert!((1..=Name::MAX_BYTES).contains(&name.as_str().len()));
    assert_eq!(name.as_str().parse().as_ref(), Ok(name));
    assert_eq!(Name::normalized(name.as_str()).as_ref(), Ok(name));
    let json = serde_json::to_vec(name).expect("a string");
    assert_eq!(serde_json::from_slice::<Name>(&json).expect("our own JSON"), *name);
}
