//! Which addresses may call: networks and single addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// Entries, at most. Each connection is compared with all of them.
const MAX_ENTRIES: usize = 256;

/// As long as any network in CIDR notation (RFC 4291 §2.3), and a little more: how much of a wrong
/// entry is repeated.
const SHOWN: usize = 60;

/// The addresses that may call; an empty list is everybody.
///
/// Written with commas between: `192.168.0.0/16, fd00::/8, ::1, 10.0.0.7`. An IPv4 address in IPv6
/// form (`::ffff:10.0.0.7`, RFC 4291 §2.5.5.2) is the IPv4 address, in the list and when asked. It
/// keeps connections from being looked at; who may do what is decided by keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    networks: Vec<IpNet>,
}

impl AllowList {
    /// Whether `address` may call.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.is_empty() || self.networks.iter().any(|net| net.contains(&address))
    }

    /// Whether everybody may.
    pub fn is_everybody(&self) -> bool {
        self.networks.is_empty()
    }
}

impl FromStr for AllowList {
    type Err = AllowListError;

    fn from_str(text: &str) -> Result<Self, AllowListError> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let networks = entries.map(parse_entry).collect::<Result<Vec<_>, _>>()?;
        if networks.len() > MAX_ENTRIES {
            return Err(AllowListError::TooMany);
        }
        Ok(Self { networks })
    }
}

impl fmt::Display for AllowList {
    /// As it is parsed; a single address without a prefix length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, network) in self.networks.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if network.prefix_len() == network.max_prefix_len() {
                write!(f, "{}", network.addr())?;
            } else {
                write!(f, "{network}")?;
            }
        }
        Ok(())
    }
}

/// Why a text is no list of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllowListError {
    /// Neither address nor network.
    #[error(
        "{0:?} is no address or network; write 10.0.0.7 for one address, 192.168.0.0/16 or \
         fd00::/8 for a network, with commas between; names do not work here"
    )]
    Entry(String),
    /// An address with an interface.
    #[error(
        "{entry:?} names an interface; write the address alone ({address}), or fe80::/10 for all \
         link-local ones"
    )]
    Zone {
        /// The entry.
        entry: String,
        /// What stands before the zone.
        address: IpAddr,
    },
    /// More bits than an address of its family has.
    #[error("{entry:?} has too long a prefix; write {address}/{most} at most, or {address} alone")]
    Prefix {
        /// The entry.
        entry: String,
        /// Its address.
        address: IpAddr,
        /// The bits of such an address.
        most: u8,
    },
    /// An address inside a network, with the network's length.
    #[error("{entry:?} is not where its network begins; write {network}, or {address} alone")]
    HostBits {
        /// The entry.
        entry: String,
        /// The network around it.
        network: IpNet,
        /// Its address.
        address: IpAddr,
    },
    /// Too long a list.
    #[error("more than 256 addresses; write networks that hold several of them")]
    TooMany,
}

fn parse_entry(text: &str) -> Result<IpNet, AllowListError> {
    let entry = || text.chars().take(SHOWN).collect::<String>();
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address.trim_end(), Some(prefix.trim_start())),
        None => (text, None),
    };
    if let Some((address, _)) = address.split_once('%')
        && let Ok(address) = address.parse()
    {
        return Err(AllowListError::Zone { entry: entry(), address });
    }
    let address: IpAddr = address.parse().map_err(|_| AllowListError::Entry(entry()))?;
    let Some(prefix) = prefix else { return Ok(IpNet::from(address.to_canonical())) };
    if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AllowListError::Entry(entry()));
    }
    let most = IpNet::from(address).max_prefix_len();
    let network = prefix
        .parse()
        .ok()
        .and_then(|length| IpNet::new(address, length).ok())
        .ok_or_else(|| AllowListError::Prefix { entry: entry(), address, most })?;
    if network.trunc() != network {
        let network = canonical(network.trunc());
        let address = address.to_canonical();
        return Err(AllowListError::HostBits { entry: entry(), network, address });
    }
    Ok(canonical(network))
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn canonical(network: IpNet) -> IpNet {
    match (network.addr().to_canonical(), network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(v4), Some(length)) if network.max_prefix_len() == 128 => {
            Ipv4Net::new(v4, length).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AllowList {
        text.parse().unwrap()
    }

    fn allows(list: &AllowList, address: &str) -> bool {
        list.allows(address.parse().unwrap())
    }

    #[test]
    fn an_empty_list_is_everybody() {
        for text in ["", " ", ",", " , "] {
            assert!(list(text).is_everybody(), "{text:?}");
            assert!(allows(&list(text), "203.0.113.9") && allows(&list(text), "2001:db8::1"));
        }
        assert_eq!(AllowList::default().to_string(), "");
    }

    #[test]
    fn addresses_and_networks_of_both_families_are_told_apart() {
        let list = list("192.168.0.0/16, fd00::/8,::1 ,10.0.0.7");
        assert!(!list.is_everybody());
        for inside in ["192.168.255.1", "fd12::9", "::1", "10.0.0.7", "::ffff:192.168.1.1"] {
            assert!(allows(&list, inside), "{inside}");
        }
        for outside in ["192.169.0.1", "fe80::1", "::2", "10.0.0.8", "127.0.0.1", "::ffff:10.0.0.8"]
        {
            assert!(!allows(&list, outside), "{outside}");
        }
    }

    #[test]
    fn ipv4_in_ipv6_form_is_ipv4() {
        let list = list("::ffff:10.0.0.7, ::ffff:10.1.0.0/112");
        assert_eq!(list.to_string(), "10.0.0.7, 10.1.0.0/16");
        assert!(allows(&list, "10.0.0.7") && allows(&list, "10.1.2.3"));
        assert!(!allows(&list, "10.2.0.1"));
    }

    #[test]
    fn one_family_s_everything_is_not_the_other_s() {
        assert!(!allows(&list("0.0.0.0/0"), "2001:db8::1"));
        assert!(!allows(&list("::/0"), "10.0.0.1"));
        assert!(allows(&list("0.0.0.0/0, ::/0"), "10.0.0.1"));
    }

    #[test]
    fn what_is_shown_can_be_parsed_again() {
        for text in ["192.168.0.0/16, fd00::/8, ::1, 10.0.0.7", "0.0.0.0/0", "::/0", "10.0.0.7"] {
            assert_eq!(list(text).to_string(), text);
        }
        assert_eq!(list("10.0.0.7/32,::1/128").to_string(), "10.0.0.7, ::1");
    }

    #[test]
    fn errors_say_what_to_write() {
        let error = |text: &str| text.parse::<AllowList>().unwrap_err().to_string();
        for text in ["desk.local", "10.0.0", "10.0.0.*", "10.0.0.1-9", "10.0.0.0/x", "10.0.0.0/"] {
            assert!(error(text).contains("write 10.0.0.7"), "{}", error(text));
        }
        assert!(error("::1, desk").contains("\"desk\""));
        assert!(error("192.168.1.5/16").contains("write 192.168.0.0/16, or 192.168.1.5 alone"));
        assert!(error("10.0.0.0/33").contains("write 10.0.0.0/32 at most"));
        assert!(error("fd00::/129").contains("fd00::/128"));
        assert!(error("fd00::/999").contains("fd00::/128"));
        assert!(error("fe80::1%eth0").contains("(fe80::1)"));
        assert!(error("::ffff:10.0.0.1/104").contains("write 10.0.0.0/8, or 10.0.0.1 alone"));
        assert!(error(&"10.0.0.1,".repeat(257)).contains("256"));
        assert!(error(&"x".repeat(9999)).len() < 400, "a long entry is not repeated");
        assert!(!error("a\u{1b}[31m").contains('\u{1b}'));
    }
}
