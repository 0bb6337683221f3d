//! Firewalls for the machines of [`crate::net`]: what they drop is gone without a word, as behind a
//! careless administrator. They see IPv4 only.

use std::process::Command;
use std::time::Duration;

use crate::launch::SOON;
use crate::net::{Namespaces, Side};
use crate::proc::{self, Process};

/// Whether this machine has firewalls, or why not: they need `iptables` and a kernel that filters in
/// namespaces.
///
/// # Errors
/// The reason, for [`crate::skipped`].
pub fn available() -> Result<(), String> {
    let net = Namespaces::new()?;
    let lock = Namespaces::drop_udp_to(&net, Side::A);
    lock.map(drop).map_err(|e| format!("no firewall in a network namespace: {e}"))
}

/// A rule that holds until it is dropped.
#[derive(Debug)]
#[must_use = "the rule is gone when this is dropped"]
pub struct Rule<'a> {
    net: &'a Namespaces,
    side: Side,
    what: &'static [&'static str],
}

impl Namespaces {
    /// Every datagram on its way to `side` is dropped from now on.
    ///
    /// # Errors
    /// `iptables` fails; the text carries what it printed.
    pub fn drop_udp_to(&self, side: Side) -> Result<Rule<'_>, String> {
        let rule = Rule { net: self, side, what: &["-p", "udp", "-j", "DROP"] };
        rule.iptables("-I").map(|_| rule)
    }

    /// Cuts every TCP connection of `side` as somebody does who forges a reset: both ends hear that
    /// the other one has ended it. Gives how many there were.
    ///
    /// # Errors
    /// `ss` fails, or the kernel cannot do that.
    pub fn reset_tcp(&self, side: Side) -> Result<usize, String> {
        // Without a filter, only connections count: listening sockets are not shown.
        let said = run(self, side, "ss", &["-H", "-t", "-n", "-K"])?;
        Ok(said.lines().filter(|line| line.starts_with("ESTAB")).count())
    }

    /// How many TCP connections `side` has.
    ///
    /// # Errors
    /// `ss` fails.
    pub fn tcp_connections(&self, side: Side) -> Result<usize, String> {
        let said = run(self, side, "ss", &["-H", "-t", "-n", "state", "established"])?;
        Ok(said.lines().count())
    }
}

impl Rule<'_> {
    fn iptables(&self, how: &str) -> Result<String, String> {
        let mut arguments = vec!["-w", how, "INPUT"];
        arguments.extend(self.what);
        run(self.net, self.side, "iptables", &arguments)
    }
}

impl Drop for Rule<'_> {
    fn drop(&mut self) {
        // It goes with the namespace at the latest.
        let _ = self.iptables("-D");
    }
}

/// Whether connections can be cut here, or why not.
///
/// # Errors
/// The reason, for [`crate::skipped`].
pub fn can_reset() -> Result<(), String> {
    let net = Namespaces::new()?;
    let hold = "import socket, time; s = socket.create_server(('127.0.0.1', 0))\n\
                c = socket.create_connection(s.getsockname()); print('connected', flush=True)\n\
                time.sleep(60)";
    let mut python = Command::new("python3");
    python.args(["-c", hold]);
    let held = Process::spawn(net.exec(Side::A, &python)).map_err(|e| e.to_string())?;
    held.wait_for_line("connected", SOON).map_err(|e| e.to_string())?;
    match net.reset_tcp(Side::A)? {
        // The kernel is silent when it does not know how.
        0 => Err("ss -K cuts no connection: the kernel has no CONFIG_INET_DIAG_DESTROY".into()),
        _ => Ok(()),
    }
}

fn run(net: &Namespaces, side: Side, program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments);
    proc::run(net.exec(side, &command), Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a datagram from A reaches B.
    fn arrives(net: &Namespaces) -> bool {
        let python = |script: &str| {
            let mut command = Command::new("python3");
            command.args(["-c", script]);
            command
        };
        let receive = format!(
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)\n\
             s.bind(('{}', 0)); print('port', s.getsockname()[1], flush=True)\n\
             print('got', s.recv(100).decode(), flush=True)",
            Side::B.ipv4()
        );
        let receiver = Process::spawn(net.exec(Side::B, &python(&receive))).unwrap();
        let line = receiver.wait_for_line("port ", SOON).unwrap();
        let port = line.trim_start_matches("port ");
        let send = format!(
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
             s.sendto(b'hello', ('{}', {port}))",
            Side::B.ipv4()
        );
        proc::run(net.exec(Side::A, &python(&send)), SOON).unwrap();
        receiver.wait_for_line("got hello", SOON).is_ok()
    }

    #[test]
    fn datagrams_are_dropped_in_one_direction_until_the_rule_is_gone() {
        if crate::skipped(crate::net::available().and_then(|()| available())) {
            return;
        }
        let net = Namespaces::new().unwrap();
        assert!(arrives(&net));
        let rule = net.drop_udp_to(Side::B).unwrap();
        assert!(!arrives(&net));
        drop(rule);
        let _other_direction = net.drop_udp_to(Side::A).unwrap();
        assert!(arrives(&net));
    }
}
