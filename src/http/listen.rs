//! Listening sockets: bound here, or held by the service manager and passed on.
//!
//! Guarantees: an address of the configuration that the service manager holds is taken over from
//! it, so that a restart refuses nobody; a socket that was passed on and that no address names is
//! an error, because its senders would wait for ever; an address that is taken is told with whoever
//! holds it. It accepts nothing.

use std::io::{Error, ErrorKind, Result};
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use super::holder;

/// Sockets that the service manager passed on (`LISTEN_FDS`), not yet claimed.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(SocketAddr, TcpListener)>,
    /// Whether there were any.
    any: bool,
}

/// A socket was passed on that no address of the configuration names.
#[derive(Debug, thiserror::Error)]
#[error(
    "the socket unit has {}, and neither `server.listen` nor `server.tls.listen` names {}: nobody \
     would answer there. Write the same addresses in both: `ListenStream=` of siemgate.socket \
     (`systemctl edit siemgate.socket`) and the configuration; then `systemctl daemon-reload` and \
     `systemctl restart siemgate.socket siemgate.service`",
    list(.0), if .0.len() == 1 { "it" } else { "them" }
)]
pub struct Unclaimed(Vec<SocketAddr>);

impl Inherited {
    /// What was passed on to this process. Cleans the environment: call it before there are threads.
    pub fn take() -> Result<Self> {
        let told = |error: Error| {
            Error::new(error.kind(), format!("the sockets of the service manager: {error}"))
        };
        let names: Vec<String> =
            sd_notify::listen_fds_with_names().map_err(told)?.map(|(_, name)| name).collect();
        // Without a name there is nothing for this process, whatever the rest of the environment says.
        let mut passed = if names.is_empty() { ListenFd::empty() } else { ListenFd::from_env() };
        let mut sockets = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let no_tcp = |error| {
                let advice = "a socket unit of siemgate may have `ListenStream=ADDRESS:PORT` only";
                Error::new(ErrorKind::InvalidInput, format!("socket {name}: {error}; {advice}"))
            };
            if let Some(listener) = passed.take_tcp_listener(index).map_err(no_tcp)? {
                sockets.push((listener.local_addr().map_err(told)?, listener));
            }
        }
        Ok(Self { any: !sockets.is_empty(), sockets })
    }

    fn claim(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let found = self.sockets.iter().position(|(held, _)| *held == address)?;
        Some(self.sockets.swap_remove(found).1)
    }

    /// Whether every socket has been claimed.
    pub fn all_claimed(&self) -> std::result::Result<(), Unclaimed> {
        let left: Vec<SocketAddr> = self.sockets.iter().map(|(address, _)| *address).collect();
        if left.is_empty() { Ok(()) } else { Err(Unclaimed(left)) }
    }
}

/// Listen on `addresses`, which the setting `setting` names: take over those that are inherited,
/// bind the others. A second loopback address that the machine does not have is left out.
pub fn listen(
    setting: &str,
    addresses: &[SocketAddr],
    inherited: &mut Inherited,
) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        if let Some(listener) = inherited.claim(*address) {
            listeners.push(listener);
            continue;
        }
        match TcpListener::bind(address) {
            Ok(listener) => {
                if inherited.any {
                    tracing::warn!(%address, "not in the socket unit, so that a restart refuses senders there for a moment: add it to ListenStream= of siemgate.socket");
                }
                listeners.push(listener);
            }
            // Machines without IPv6 still serve the default pair of loopback addresses.
            Err(error)
                if address.is_ipv6()
                    && address.ip().is_loopback()
                    && !listeners.is_empty()
                    && no_ipv6(&error) => {}
            Err(error) => return Err(told(setting, *address, &error)),
        }
    }
    Ok(listeners)
}

fn no_ipv6(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
        || error.raw_os_error() == Some(97)
}

fn told(setting: &str, address: SocketAddr, error: &Error) -> Error {
    let why = match error.kind() {
        ErrorKind::AddrInUse => holder::of(address, setting),
        ErrorKind::PermissionDenied => format!("{error} (ports below 1024 need rights)"),
        ErrorKind::AddrNotAvailable => {
            format!("{error} (this machine does not have that address; see {setting})")
        }
        _ => error.to_string(),
    };
    Error::new(error.kind(), format!("cannot listen on {address}: {why}"))
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(count: usize) -> Inherited {
        let socket = |_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            (listener.local_addr().unwrap(), listener)
        };
        Inherited { sockets: (0..count).map(socket).collect(), any: count > 0 }
    }

    #[test]
    fn what_is_held_is_taken_over_and_the_rest_bound() {
        let mut inherited = held(2);
        let addresses = [inherited.sockets[1].0, "127.0.0.1:0".parse().unwrap()];
        let listeners = listen("server.listen", &addresses, &mut inherited).unwrap();
        assert_eq!(listeners[0].local_addr().unwrap(), addresses[0]);
        assert_eq!(listeners.len(), 2);
        let left = inherited.sockets[0].0;
        let error = inherited.all_claimed().unwrap_err().to_string();
        assert!(
            error.contains(&format!("has {left}, and")) && error.contains("names it:"),
            "{error}"
        );
        listen("server.listen", &[left], &mut inherited).unwrap();
        assert!(inherited.all_claimed().is_ok());
    }

    #[test]
    fn an_address_of_another_machine_names_the_setting() {
        let address = "192.0.2.1:0".parse().unwrap();
        let error = listen("server.admin", &[address], &mut Inherited::default()).unwrap_err();
        assert!(error.to_string().contains("see server.admin"), "{error}");
    }
}
