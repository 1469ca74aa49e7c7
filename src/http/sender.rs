//! Who posts: the sender's address, also behind proxies.
//!
//! Guarantees: without trusted proxies it is the address of the connection, whatever the headers
//! say; a header counts only as far as trusted proxies wrote it, read from its end; a sender that
//! no address tells is unknown, which no `allow` lets in. Pure. `Forwarded` is not read: a proxy
//! that writes one header passes the other on as the client sent it, so only one can be believed.

use std::net::{IpAddr, SocketAddr};

use actix_web::HttpRequest;

use crate::core::config::Access;

/// What proxies write the sender's address into.
const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Whether `ip` is in one of the networks. An IPv4 sender on a dual-stack socket shows as
/// `::ffff:a.b.c.d`.
pub fn within(networks: &[Access], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.0.contains(&ip))
}

/// The address of who sent `request`; `None` when a trusted proxy does not tell.
pub fn of(request: &HttpRequest, trusted: &[Access]) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    let lines = request.headers().get_all(X_FORWARDED_FOR);
    behind(peer, lines.map(|line| line.as_bytes()), trusted)
}

/// The last address that is no trusted proxy, going from `peer` back through the header's `lines`.
/// When all of them are trusted, the first.
fn behind<'h>(
    peer: IpAddr,
    lines: impl Iterator<Item = &'h [u8]>,
    trusted: &[Access],
) -> Option<IpAddr> {
    if !within(trusted, peer) {
        return Some(peer);
    }
    let entries: Vec<&[u8]> = lines
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
        .collect();
    let mut sender = peer;
    for entry in entries.into_iter().rev() {
        sender = address(entry)?;
        if !within(trusted, sender) {
            break;
        }
    }
    Some(sender)
}

/// An address as proxies write it: bare, with a port, in brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(of: &[&str]) -> Vec<Access> {
        of.iter().map(|net| Access(net.parse().unwrap())).collect()
    }

    fn sender(peer: &str, lines: &[&str]) -> Option<String> {
        let trusted = networks(&["10.0.0.0/8", "fd00::/8"]);
        let found = behind(peer.parse().unwrap(), lines.iter().map(|l| l.as_bytes()), &trusted);
        found.map(|ip| ip.to_string())
    }

    #[test]
    fn the_last_address_that_is_no_proxy_posts() {
        for (peer, lines, expected) in [
            ("192.0.2.9", &["198.51.100.1"][..], Some("192.0.2.9")),
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("10.0.0.1", &["127.0.0.1, 198.51.100.1"], Some("198.51.100.1")),
            ("10.0.0.1", &["127.0.0.1, 198.51.100.1,10.2.3.4"], Some("198.51.100.1")),
            ("10.0.0.1", &["127.0.0.1", "198.51.100.1", " 10.2.3.4 "], Some("198.51.100.1")),
            ("10.0.0.1", &["10.9.9.9, 10.2.3.4"], Some("10.9.9.9")),
            ("10.0.0.1", &["198.51.100.1:4711"], Some("198.51.100.1")),
            ("10.0.0.1", &["[2001:db8::1]:4711, fd00::2"], Some("2001:db8::1")),
            ("::ffff:10.0.0.1", &["[2001:db8::1]"], Some("2001:db8::1")),
            ("10.0.0.1", &["::ffff:198.51.100.1"], Some("198.51.100.1")),
            ("10.0.0.1", &["", " , ,"], Some("10.0.0.1")),
            ("10.0.0.1", &["198.51.100.1, unknown"], None),
            ("10.0.0.1", &["unknown, 198.51.100.1"], Some("198.51.100.1")),
            ("10.0.0.1", &["198.51.100.1 10.0.0.2"], None),
        ] {
            assert_eq!(sender(peer, lines).as_deref(), expected, "{peer} {lines:?}");
        }
    }

    fn ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0u8..=3).prop_map(|n| IpAddr::from([10, 0, 0, n])),
            (0u8..=3).prop_map(|n| IpAddr::from([192, 0, 2, n])),
            (0u16..=3).prop_map(|n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])),
            (0u16..=3).prop_map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])),
        ]
    }

    proptest! {
        #[test]
        fn nothing_left_of_the_sender_matters(
            peer in ip(), hops in prop::collection::vec(ip(), 0..6), cut in 0usize..6, forged in "\\PC{0,40}",
        ) {
            let trusted = networks(&["10.0.0.0/8", "fd00::/8"]);
            // The naive model: whoever handed it to the first machine that is not ours to trust.
            let road: Vec<IpAddr> = hops.iter().copied().chain([peer]).collect();
            let expected = road.iter().rev().find(|ip| !within(&trusted, **ip)).copied();
            let header = hops.iter().map(IpAddr::to_string).collect::<Vec<_>>();
            // However the proxies cut it into lines.
            let (a, b) = header.split_at(cut.min(header.len()));
            let lines = [forged.clone(), a.join(", "), b.join(",")];
            let found = behind(peer, lines.iter().map(String::as_bytes), &trusted);
            match expected {
                Some(_) => prop_assert_eq!(found, expected),
                // All are trusted: what came before them may speak.
                None => prop_assert!(found.is_none_or(|ip| road[0] == ip || forged.contains(&ip.to_string()) || address(forged.as_bytes()).is_some())),
            }
        }

        #[test]
        fn a_header_from_anybody_else_means_nothing(line in prop::collection::vec(any::<u8>(), 0..60)) {
            let peer: IpAddr = [192, 0, 2, 1].into();
            prop_assert_eq!(behind(peer, [&line[..]].into_iter(), &networks(&["10.0.0.0/8"])), Some(peer));
            prop_assert_eq!(behind(peer, [&line[..]].into_iter(), &[]), Some(peer));
            let _ = behind(peer, [&line[..]].into_iter(), &networks(&["0.0.0.0/0", "::/0"]));
        }
    }
}
