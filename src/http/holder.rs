//! Who holds a port: what "address in use" should have said.
//!
//! Guarantees: names the process, its script and its systemd unit as far as the rights allow, and
//! otherwise the user, with the command that shows more; of a command line nothing but the name of
//! a script is told, since arguments may be secrets. Reads Linux' /proc; changes nothing.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Longest name told; the rest of the line is the message's own.
const LONGEST: usize = 80;

/// Who holds `address`, and what to do so that `setting` may have it.
pub(super) fn of(address: SocketAddr, setting: &str) -> String {
    // Those of this process's network, also where the rest of /proc is hidden.
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let tables = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
    let mut sockets = tables.iter().flat_map(|table| listening(table));
    let elsewhere = format!("or write another address in {setting}");
    let Some(socket) = sockets.find(|socket| excludes(socket.address, address)) else {
        return format!("another program holds this port; stop it, {elsewhere}");
    };
    match process_with(&format!("socket:[{}]", socket.inode)) {
        Some(process) => process.told(&elsewhere),
        None => {
            let (user, port) = (user(socket.uid), address.port());
            format!(
                "a program of user {user} holds this port, and only root may see which: \
                 `ss -ltnp 'sport = :{port}'`. Stop it, {elsewhere}"
            )
        }
    }
}

/// A socket that listens, as the kernel lists it.
#[derive(Debug, PartialEq)]
struct Listening {
    address: SocketAddr,
    uid: u32,
    inode: u64,
}

/// The sockets of a table that listen.
fn listening(table: &str) -> impl Iterator<Item = Listening> {
    table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The kernel's TCP_LISTEN.
        if fields.get(3) != Some(&"0A") {
            return None;
        }
        let uid = fields.get(7)?.parse().ok()?;
        Some(Listening { address: parse(fields[1])?, uid, inode: fields.get(9)?.parse().ok()? })
    })
}

/// An address as the kernel writes it: the machine's own words of 32 bits, in hex.
fn parse(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for at in (0..ip.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Whether a listener on `held` keeps others from `wanted`. The IPv6 wildcard takes IPv4 as well.
fn excludes(held: SocketAddr, wanted: SocketAddr) -> bool {
    let same_family = held.is_ipv4() == wanted.is_ipv4();
    let all_of = |one: SocketAddr| match one.ip() {
        IpAddr::V4(ip) => ip == Ipv4Addr::UNSPECIFIED && same_family,
        IpAddr::V6(ip) => ip == Ipv6Addr::UNSPECIFIED,
    };
    held.port() == wanted.port() && (held.ip() == wanted.ip() || all_of(held) || all_of(wanted))
}

/// A process that has the socket.
#[derive(Debug, Default, PartialEq)]
struct Process {
    pid: u32,
    name: String,
    script: Option<String>,
    unit: Option<String>,
}

/// The process that has `link` open; the manager that only keeps it for others comes last.
fn process_with(link: &str) -> Option<Process> {
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(entry.path().join("fd")).ok()?;
        open.any(|file| {
            let target = file.and_then(|file| fs::read_link(file.path()));
            target.is_ok_and(|target| target == Path::new(link))
        })
        .then_some(pid)
    });
    let pid = pids.max_by_key(|pid| (*pid != 1, std::cmp::Reverse(*pid)))?;
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Some(Process {
        pid,
        name: plain(text(read("comm")).trim_end()),
        script: script(&text(read("cmdline"))),
        unit: unit(&text(read("cgroup"))),
    })
}

/// What an interpreter runs: the first argument that names a script.
fn script(command: &str) -> Option<String> {
    let is_script = |word: &&str| {
        let ends = [".py", ".js", ".rb", ".pl", ".sh", ".jar"];
        !word.starts_with('-')
            && !word.contains(['=', '@', ':', '?', ' '])
            && ends.iter().any(|end| word.ends_with(end))
    };
    let word = command.split('\0').skip(1).find(is_script)?;
    let (folder, name) = word.rsplit_once('/').unwrap_or(("", word));
    let name = plain(name);
    Some(if folder.is_empty() { name } else { format!("…/{name}") })
}

/// The systemd service a process belongs to.
fn unit(groups: &str) -> Option<String> {
    let last = groups.lines().filter_map(|line| line.rsplit('/').next());
    last.filter(|name| name.ends_with(".service") && !name.starts_with("user@")).map(plain).next()
}

/// Printable, and not too long for a message.
fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() || c == '"' { '?' } else { c };
    text.chars().map(shown).take(LONGEST).collect()
}

fn user(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| plain(name))
    });
    name.unwrap_or_else(|| uid.to_string())
}

impl Process {
    fn told(&self, elsewhere: &str) -> String {
        let Self { pid, name, script, unit } = self;
        if *pid == 1 {
            return format!(
                "systemd holds this port for a socket unit (`systemctl list-sockets` names it). \
                 Start the gateway by its unit, or stop both (`systemctl stop siemgate.socket siemgate.service`), {elsewhere}"
            );
        }
        if name == "siemgate" {
            return format!(
                "another siemgate (pid {pid}) holds this port; stop that one first, {elsewhere}"
            );
        }
        let script = script.as_ref().map(|script| format!(", \"{script}\"")).unwrap_or_default();
        let of_unit = unit.as_ref().map(|unit| format!(", unit {unit}")).unwrap_or_default();
        let stop = match unit {
            Some(unit) => format!("stop it (`systemctl disable --now {unit}`)"),
            None => format!("stop it (`kill {pid}`)"),
        };
        format!("{name} (pid {pid}{script}{of_unit}) holds this port; {stop}, {elsewhere}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 4711 1 0 100 0 0 10 0\n\
   1: 0100007F:1388 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1001        0 4712 1 0 20 4 30 10 -1\n\
   2: 00000000000000000000000001000000:1388 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1\n\
  rubbish\n   3: 01:02 x 0A\n";
        if cfg!(target_endian = "big") {
            return;
        }
        let found: Vec<_> = listening(table).collect();
        let one =
            |address: &str, uid, inode| Listening { address: address.parse().unwrap(), uid, inode };
        assert_eq!(found, [one("127.0.0.1:5000", 1001, 4711), one("[::1]:5000", 0, 4713)]);
    }

    #[test]
    fn a_wildcard_keeps_others_out() {
        for (held, wanted, expected) in [
            ("127.0.0.1:5000", "127.0.0.1:5000", true),
            ("127.0.0.1:5000", "127.0.0.1:5001", false),
            ("127.0.0.1:5000", "127.0.0.2:5000", false),
            ("0.0.0.0:5000", "127.0.0.1:5000", true),
            ("0.0.0.0:5000", "[::1]:5000", false),
            ("[::]:5000", "127.0.0.1:5000", true),
            ("127.0.0.1:5000", "0.0.0.0:5000", true),
            ("[::1]:5000", "127.0.0.1:5000", false),
        ] {
            let (held, wanted) = (held.parse().unwrap(), wanted.parse().unwrap());
            assert_eq!(excludes(held, wanted), expected, "{held} {wanted}");
        }
    }

    #[test]
    fn nothing_but_a_scripts_name_is_told_of_a_command_line() {
        for (command, expected) in [
            ("python3\0/opt/superna/sophos.py\0--key=hunter2\0", Some("…/sophos.py")),
            ("python3\0-u\0sophos.py\0", Some("sophos.py")),
            ("node\0--key=/a/b\0./x\x1by.js\0", Some("…/x?y.js")),
            ("siemgate\0--config\0/etc/siemgate/config.d\0", None),
            ("curl\0https://user:hunter2@host/x.py\0", None),
            ("", None),
        ] {
            assert_eq!(script(command).as_deref(), expected, "{command:?}");
        }
        let groups = "8:pids:/x.slice\n1:name=systemd:/system.slice/sophos.service\n0::/\n";
        assert_eq!(unit(groups).as_deref(), Some("sophos.service"));
        assert_eq!(unit("0::/user.slice/user@0.service\n"), None);
    }

    #[test]
    fn the_message_says_what_to_do() {
        let mut process = Process { pid: 812, name: "python3".into(), ..Process::default() };
        process.script = Some("…/sophos.py".into());
        let told = process.told("or go");
        assert_eq!(
            told,
            "python3 (pid 812, \"…/sophos.py\") holds this port; stop it (`kill 812`), or go"
        );
        process.unit = Some("sophos.service".into());
        assert!(process.told("").contains("unit sophos.service) holds this port; stop it (`systemctl disable --now sophos.service`)"));
        process.name = "siemgate".into();
        assert!(process.told("").starts_with("another siemgate (pid 812)"));
        process.pid = 1;
        assert!(process.told("").contains("siemgate.socket"));
    }
}
