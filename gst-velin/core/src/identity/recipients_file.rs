//! An age recipients file as a list of peers: the form that `age -R` takes as well.

use super::grants::Grants;
use super::key::PublicKey;
use super::trust::{Collector, ParseTrustError, TrustedPeer, Via};

/// One `age1…` per line, blank lines and `#` comments between.
pub(super) fn parse(text: &str) -> Result<Vec<TrustedPeer>, ParseTrustError> {
    let mut collector = Collector::default();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let key = content
            .parse::<PublicKey>()
            .map_err(|reason| ParseTrustError::Recipient { line, reason })?;
        let peer = TrustedPeer {
            key,
            name: None,
            may: Grants::PLAY_TO_ME,
            via: Via::File,
            added: None,
            host: None,
            expires: None,
        };
        collector.push(peer, line, line)?;
    }
    Ok(collector.finish())
}

#[cfg(test)]
mod tests {
    use super::super::grants::Grant;
    use super::super::key::Identity;
    use super::super::recipient::RecipientError;
    use super::*;

    fn recipient(seed: u8) -> String {
        Identity::from_secret([seed; 32]).public().recipient()
    }

    #[test]
    fn each_line_may_play_and_nothing_else() {
        let text = format!("# Küche\n{}\n\n  {}  \r\n", recipient(1), recipient(2));
        let peers = parse(&text).unwrap();
        assert_eq!(peers.len(), 2);
        for peer in peers {
            assert_eq!(peer.may.iter().collect::<Vec<_>>(), [Grant::PlayToMe]);
            assert_eq!(peer.name, None);
        }
    }

    #[test]
    fn errors_name_the_line() {
        let text = format!("{}\n# x\n{}\n", recipient(1), recipient(1));
        assert_eq!(parse(&text), Err(ParseTrustError::DuplicateKey { line: 3, first: 1 }));
        let text = format!("\n{}x\n", recipient(1));
        let reason = RecipientError::Length { found: 63 };
        assert_eq!(parse(&text), Err(ParseTrustError::Recipient { line: 2, reason }));
    }
}
