//! Whom a `[[send]]` goes to, as written.

use std::net::Ipv6Addr;

use super::model::Target;

/// Message and help when it is none.
pub(super) type TargetError = (String, &'static str);

/// Reads a `[[send]]`'s `to`.
pub(super) fn parse(text: &str) -> Result<Target, TargetError> {
    const HELP: &str =
        "write HOST, HOST:PORT, [IPV6]:PORT, velin://HOST:PORT or a trusted peer's name";
    let text = text.trim();
    if let Some((scheme, rest)) = text.split_once("://") {
        if scheme != "velin" {
            let message = format!("`{scheme}://` is not a scheme that can be sent to");
            return Err((message, "use velin://HOST:PORT, or the host alone"));
        }
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        if host.is_empty() {
            return Err(("the URI names no host".to_owned(), "write velin://HOST:PORT"));
        }
        return Ok(Target::Uri(text.to_owned()));
    }
    let port_of = |port: &str| match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err((format!("`{port}` is not a port"), "use 1 to 65535; Velin listens on 49000")),
    };
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let Some((host, rest)) = bracketed.split_once(']') else {
            return Err(("a bracket is not closed".to_owned(), HELP));
        };
        match rest.strip_prefix(':') {
            Some(port) => (host, port_of(port)?),
            None if rest.is_empty() => (host, None),
            None => return Err((format!("`{rest}` does not belong behind a host"), HELP)),
        }
    } else if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else if let Some((host, port)) = text.split_once(':') {
        (host, port_of(port)?)
    } else {
        (text, None)
    };
    if host.is_empty() {
        return Err(("this names no host".to_owned(), HELP));
    }
    if host.chars().any(|c| c.is_control() || "/?#@".contains(c)) {
        return Err((format!("`{host}` is not a host"), HELP));
    }
    Ok(Target::Host { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str, port: Option<u16>) -> Result<Target, TargetError> {
        Ok(Target::Host { host: host.to_owned(), port })
    }

    #[test]
    fn targets_are_hosts_with_or_without_a_port() {
        assert_eq!(parse("living-room"), host("living-room", None));
        assert_eq!(parse("10.0.0.1:5000"), host("10.0.0.1", Some(5000)));
        assert_eq!(parse("::1"), host("::1", None));
        assert_eq!(parse("[::1]:5000"), host("::1", Some(5000)));
        assert_eq!(parse("[fe80::1%eth0]"), host("fe80::1%eth0", None));
    }

    #[test]
    fn velin_uris_are_left_to_the_element() {
        let uri = "velin://host:1/desktop?carrier=tcp";
        assert_eq!(parse(uri), Ok(Target::Uri(uri.to_owned())));
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for text in
            ["", ":49000", "host:0", "host:http", "[::1", "[::1]x", "srt://h:1", "velin://", "a/b"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
