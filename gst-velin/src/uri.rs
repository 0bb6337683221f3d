//! `velin://host[:port]/[stream]?key=value&…`

/// A parsed `velin://` URI. Nothing in it is resolved, and nothing in it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VelinUri {
    /// Name or address; IPv6 without brackets. Empty = the element's default.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// The stream's name.
    pub(crate) stream: Option<String>,
    /// Properties, in order.
    pub(crate) query: Vec<(String, String)>,
}

impl VelinUri {
    /// `Err` says what is wrong with the URI.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let uri =
            url::Url::parse(text).map_err(|e| format!("{e}; write velin://host:port/stream"))?;
        if uri.scheme() != "velin" {
            return Err(format!("the scheme is {:?}; write velin://host:port", uri.scheme()));
        }
        if !uri.username().is_empty() || uri.password().is_some() {
            return Err("a velin:// URI holds no user or password; keys live in files".into());
        }
        let path = decode(uri.path().trim_start_matches('/'));
        if path.contains('/') {
            return Err(format!("{path:?} names more than one stream"));
        }
        let host = decode(uri.host_str().unwrap_or_default());
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port(),
            stream: (!path.is_empty()).then_some(path),
            query: uri.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect(),
        })
    }

    /// The URI's text.
    pub(crate) fn to_text(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { escape(&self.host) };
        let mut text = format!("velin://{host}");
        if let Some(port) = self.port {
            text += &format!(":{port}");
        }
        text += "/";
        text += &self.stream.as_deref().map(escape).unwrap_or_default();
        for (i, (key, value)) in self.query.iter().enumerate() {
            text += if i == 0 { "?" } else { "&" };
            text += &format!("{}={}", escape(key), escape(value));
        }
        text
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1).
fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn escape(text: &str) -> String {
    const RESERVED: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(text, RESERVED).to_string()
}

/// A DSCP value by number or by one of the old names: `voip`, `cs5`, `lowdelay`, `throughput`,
/// `besteffort`. −1 leaves packets unmarked.
pub(crate) fn parse_dscp(text: &str) -> Option<i32> {
    let named = [("voip", 46), ("cs5", 40), ("lowdelay", 4), ("throughput", 2), ("besteffort", 0)];
    named
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, value)| *value)
        .or_else(|| text.parse().ok().filter(|v| (-1..=63).contains(v)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_survive_the_round_trip() {
        for text in [
            "velin://living-room/",
            "velin://192.168.1.5:49000/desktop",
            "velin://[fe80::1]:50000/?codec=pcm&latency=20",
            "velin://host/two%20words",
            "velin:///",
        ] {
            let parsed = VelinUri::parse(text).unwrap();
            assert_eq!(parsed.to_text(), text);
            assert_eq!(VelinUri::parse(&parsed.to_text()).unwrap(), parsed);
        }
        assert_eq!(VelinUri::parse("velin://h/two%20words").unwrap().stream.unwrap(), "two words");
    }

    #[test]
    fn bad_uris_are_refused_with_a_reason() {
        for bad in ["http://x/", "velin://h:99999/", "velin://u:p@h/", "velin://h/a/b", ""] {
            assert!(VelinUri::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dscp_goes_by_number_and_name() {
        assert_eq!(parse_dscp("VoIP"), Some(46));
        assert_eq!(parse_dscp("cs5"), Some(40));
        assert_eq!(parse_dscp("-1"), Some(-1));
        assert_eq!(parse_dscp("64"), None);
        assert_eq!(parse_dscp("fast"), None);
    }
}
