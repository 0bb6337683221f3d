//! Two machines on one: network namespaces joined by a cable (a veth pair), with IPv4 and IPv6.
//!
//! The file system is shared, so a process in a namespace still reaches unix sockets, such as those of
//! the servers in [`crate::sound`].

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::proc::{self, Guardian};

/// Which of the two machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// 192.0.2.1 and fd00:7665:6c69::1
    A,
    /// 192.0.2.2 and fd00:7665:6c69::2
    B,
}

impl Side {
    /// Its IPv4 address (from the range that is reserved for examples, RFC 5737).
    #[must_use]
    pub fn ipv4(self) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, self.number()).into()
    }

    /// Its IPv6 address (from the locally assigned range, RFC 4193).
    #[must_use]
    pub fn ipv6(self) -> IpAddr {
        Ipv6Addr::new(0xfd00, 0x7665, 0x6c69, 0, 0, 0, 0, self.number().into()).into()
    }

    fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }
}

/// Two namespaces with a cable between them. Dropping it removes them; processes in them are for
/// [`proc::Process`] to end.
#[derive(Debug)]
pub struct Namespaces {
    names: [String; 2],
    guardian: Option<Guardian>,
}

/// Whether this machine can have namespaces, or why not: they need root and the `ip` command.
///
/// # Errors
/// The reason, for [`crate::skipped`].
pub fn available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces need root".into());
    }
    let name = unique_name("probe");
    ip(&["netns", "add", &name]).map_err(|e| format!("no network namespaces here: {e}"))?;
    let joined =
        ip(&["-n", &name, "link", "add", "name", "a", "type", "veth", "peer", "name", "b"]);
    let _ = ip(&["netns", "del", &name]);
    joined.map(drop).map_err(|e| format!("no veth devices here: {e}"))
}

impl Namespaces {
    /// Makes the two and plugs in the cable.
    ///
    /// # Errors
    /// A step fails; the text carries the command and what it printed.
    pub fn new() -> Result<Self, String> {
        let names = [unique_name("a"), unique_name("b")];
        let [a, b] = &names;
        let script = format!(
            "ip netns del {a}; ip netns del {b}; rm -rf {} {}",
            etc(a).display(),
            etc(b).display()
        );
        let guardian = Guardian::new(&script).map_err(|e| e.to_string())?;
        // Built first, so that a step that fails leaves nothing behind.
        let pair = Self { names: names.clone(), guardian: Some(guardian) };

        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        ip(&[
            "-n", a, "link", "add", "name", CABLE, "type", "veth", "peer", "name", CABLE, "netns",
            b,
        ])?;
        for side in [Side::A, Side::B] {
            let name = pair.name(side);
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "address", "add", &format!("{}/24", side.ipv4()), "dev", CABLE])?;
            let ipv6 = format!("{}/64", side.ipv6());
            // Without duplicate address detection, which takes a second.
            ip(&["-n", name, "-6", "address", "add", &ipv6, "dev", CABLE, "nodad"])?;
            ip(&["-n", name, "link", "set", CABLE, "up"])?;
        }
        pair.wait_for_ipv6()?;
        Ok(pair)
    }

    /// A new link has an address of its own to check before its neighbours answer, up to a second.
    fn wait_for_ipv6(&self) -> Result<(), String> {
        let mut call = Command::new("bash");
        // The discard port, where nobody listens: to be refused is an answer.
        call.args(["-c", &format!("exec 3<>/dev/tcp/{}/9", Side::B.ipv6())]);
        let call = self.exec(Side::A, &call);
        let mut said = String::new();
        let answered = proc::wait_until(Duration::from_secs(10), || {
            let mut attempt = Command::new("timeout");
            attempt.arg("0.3").arg(call.get_program()).args(call.get_args());
            said = proc::run(attempt, Duration::from_secs(5)).err().unwrap_or_default();
            said.contains("refused")
        });
        if answered { Ok(()) } else { Err(format!("no IPv6 across the cable: {said}")) }
    }

    /// `command` as it would run on that machine: same program, arguments, environment and folder.
    #[must_use]
    pub fn exec(&self, side: Side, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", self.name(side)]);
        inside.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(key, value),
                None => inside.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        inside
    }

    /// Gives both machines a hosts file with these names.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn name_hosts(&self, hosts: &[(IpAddr, &str)]) -> Result<(), String> {
        let lines: String = hosts.iter().map(|(ip, name)| format!("{ip} {name}\n")).collect();
        for name in &self.names {
            // `ip netns exec` mounts what is here over /etc (ip-netns(8)).
            let folder = etc(name);
            fs::create_dir_all(&folder)
                .and_then(|()| fs::write(folder.join("hosts"), &lines))
                .map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        Ok(())
    }

    /// The namespace's name, for `ip -n`.
    #[must_use]
    pub fn name(&self, side: Side) -> &str {
        match side {
            Side::A => &self.names[0],
            Side::B => &self.names[1],
        }
    }

    /// Pulls the cable at one end. IPv6 addresses go with it; see [`Self::plug`].
    ///
    /// # Errors
    /// `ip` fails.
    pub fn unplug(&self, side: Side) -> Result<(), String> {
        ip(&["-n", self.name(side), "link", "set", CABLE, "down"]).map(drop)
    }

    /// Plugs the cable in again and gives back the IPv6 address.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn plug(&self, side: Side) -> Result<(), String> {
        let (name, ipv6) = (self.name(side), format!("{}/64", side.ipv6()));
        ip(&["-n", name, "link", "set", CABLE, "up"])?;
        ip(&["-n", name, "-6", "address", "replace", &ipv6, "dev", CABLE, "nodad"]).map(drop)
    }

    /// Replaces the machine's IPv4 address, as a new lease would.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn readdress(&self, side: Side, address: Ipv4Addr) -> Result<(), String> {
        let name = self.name(side);
        ip(&["-n", name, "-4", "address", "flush", "dev", CABLE])?;
        ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", CABLE]).map(drop)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "del", name]);
            let _ = fs::remove_dir_all(etc(name));
        }
        if let Some(guardian) = self.guardian.take() {
            guardian.dismiss();
        }
    }
}

/// The name of the cable's end in both namespaces.
const CABLE: &str = "velin0";

fn ip(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("ip");
    command.args(arguments);
    proc::run(command, Duration::from_secs(10))
}

fn etc(name: &str) -> PathBuf {
    Path::new("/etc/netns").join(name)
}

fn unique_name(role: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("velin-{}-{count}-{role}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::Process;

    const SOON: Duration = Duration::from_secs(10);

    /// A listener that answers with what it was sent, and a caller; both in Python's standard library.
    fn echo_across(pair: &Namespaces, address: IpAddr) -> Result<String, String> {
        let family = if address.is_ipv4() { "AF_INET" } else { "AF_INET6" };
        let serve = format!(
            "import socket; s = socket.create_server(('{address}', 0), family=socket.{family})\n\
             print('port', s.getsockname()[1], flush=True)\n\
             c = s.accept()[0]; c.sendall(c.recv(100))"
        );
        let server = Process::spawn(pair.exec(Side::B, &python(&serve))).unwrap();
        let line = server.wait_for_line("port ", SOON).unwrap();
        let port = line.trim_start_matches("port ");
        let call = format!(
            "import socket; s = socket.create_connection(('{address}', {port}), 2)\n\
             s.sendall(b'hello'); print(s.recv(100).decode())"
        );
        proc::run(pair.exec(Side::A, &python(&call)), SOON)
    }

    fn python(script: &str) -> Command {
        let mut command = Command::new("python3");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_two_machines_reach_each_other_by_ipv4_and_ipv6() {
        if crate::skipped(available()) {
            return;
        }
        let pair = Namespaces::new().unwrap();
        assert_eq!(echo_across(&pair, Side::B.ipv4()).unwrap(), "hello");
        assert_eq!(echo_across(&pair, Side::B.ipv6()).unwrap(), "hello");
    }

    #[test]
    fn a_pulled_cable_separates_them_until_it_is_plugged_in() {
        if crate::skipped(available()) {
            return;
        }
        let pair = Namespaces::new().unwrap();
        pair.unplug(Side::A).unwrap();
        assert!(echo_across(&pair, Side::B.ipv4()).is_err());
        pair.plug(Side::A).unwrap();
        assert_eq!(echo_across(&pair, Side::B.ipv4()).unwrap(), "hello");
        assert_eq!(echo_across(&pair, Side::B.ipv6()).unwrap(), "hello");
    }

    #[test]
    fn nothing_is_left_behind() {
        if crate::skipped(available()) {
            return;
        }
        let pair = Namespaces::new().unwrap();
        let name = pair.name(Side::A).to_owned();
        assert!(ip(&["netns", "list"]).unwrap().contains(&name));
        drop(pair);
        assert!(!ip(&["netns", "list"]).unwrap().contains(&name));
    }
}
