//! `trust.toml` and an age recipients file.

use std::collections::HashSet;

use velin_core::identity::TrustBook;

/// What parses can be written and parses to the same peers; no key and no name stands in it twice.
pub fn run(data: &[u8]) {
    let book = match TrustBook::parse_bytes(data) {
        Ok(book) => book,
        Err(e) => return super::assert_printable(&e),
    };
    let written = book.to_toml();
    let again = TrustBook::parse(&written).expect("what was written parses");
    assert_eq!(again.peers(), book.peers(), "{written}");
    assert_eq!(again.to_toml(), written);
    let keys: HashSet<_> = book.peers().iter().map(|peer| peer.key).collect();
    assert_eq!(keys.len(), book.peers().len());
    let names: Vec<_> = book.peers().iter().filter_map(|peer| peer.name.clone()).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    for peer in book.peers() {
        super::assert_printable(&peer.label());
        assert_eq!(book.entry(&peer.key), Some(peer));
        if let Some(name) = &peer.name {
            assert_eq!(book.by_name(name.as_str()), Some(peer));
        }
    }
}
