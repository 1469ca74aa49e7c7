//! TLS, for every kind of sink that speaks it: what must not be accepted parks the sink and says what
//! to do, and what was named is accepted. A kind that takes `ca_file` is tested here without a line
//! of its own.

use rcgen::{BasicConstraints, IsCa};
use siemgate::core::sink::{Cause, Fault, Outcome};
use siemgate::sinks::{Built, Catalogue, Entry};
use tempfile::TempDir;

use crate::certificates::{Authority, Demands, Leaf, Server, raw, valid};
use crate::sinks::{build, built, delivered, folder, send, told};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// The kinds that speak TLS. A product that one of them carries is that kind with other defaults.
fn kinds() -> impl Iterator<Item = Entry> {
    let speaks = |kind: &Entry| {
        kind.carrier().is_none() && kind.schema().to_value()["properties"]["ca_file"].is_object()
    };
    Catalogue::default().all().unwrap().into_iter().filter(speaks)
}

/// The kind's sample, with its destination at `localhost:port` and `trust` among its settings.
fn sample(kind: &Entry, port: u16, dir: &TempDir, trust: &str) -> String {
    let dir = dir.path().display().to_string();
    let sample = kind.sample_with(&format!("https://localhost:{port}"), &dir);
    let sample = sample.replace("tcp://", "tls://");
    let sample = sample.replace("smtp://", "smtps://").replace("starttls = false", "");
    let line = format!("type = \"{}\"\n", kind.name());
    // These servers do not speak before TLS does.
    let first = kind.schema().to_value()["properties"]["tls_first"].is_object();
    let trust = if first { format!("tls_first = true\n{trust}") } else { trust.to_owned() };
    assert!(sample.contains(&line), "{sample}");
    sample.replacen(&line, &format!("{line}{trust}\n"), 1)
}

fn sink(kind: &Entry, port: u16, dir: &TempDir, trust: &str) -> Built {
    built(&sample(kind, port, dir, trust))
}

/// `ca_file` with this authority.
fn trusting(authority: &Authority, dir: &TempDir) -> String {
    let pem = dir.path().join("root.pem");
    std::fs::write(&pem, &authority.pem).unwrap();
    format!("ca_file = {pem:?}")
}

/// A failure with this cause whose note has all of `words`.
fn refused(outcome: Outcome, cause: Cause, words: &[&str]) -> Fault {
    let Outcome::Failed(fault) = outcome else { panic!("not refused: {outcome:?}") };
    assert_eq!(fault.cause, cause, "{fault:?}");
    for word in words {
        assert!(fault.note.contains(word), "`{word}` in {fault:?}");
    }
    fault
}

/// Every kind sends to a server with `leaf`, and is refused by its own rules before a byte of the
/// event has left.
async fn refuses(leaf: &Leaf, trust: impl Fn(&TempDir) -> String, words: &[&str]) {
    let server = Server::start(leaf).await;
    for kind in kinds() {
        let dir = folder();
        let sink = sink(&kind, server.port, &dir, &trust(&dir));
        refused(send(&sink, &["{\"private\":1}"]).await, Cause::Setup, words);
        let probed = sink.sink.probe(crate::sinks::now()).await.unwrap_err();
        assert_eq!(probed.cause, Cause::Setup, "{}: {probed:?}", kind.name());
    }
    assert_eq!(server.received(), "");
}

/// Every kind delivers to a server with `leaf`.
async fn accepts(leaf: &Leaf, demands: Demands<'_>, trust: impl Fn(&TempDir) -> String) {
    let server = Server::start_with(leaf, demands).await;
    for kind in kinds() {
        let dir = folder();
        server.answers_like(&kind);
        delivered(send(&sink(&kind, server.port, &dir, &trust(&dir)), &["{}"]).await);
    }
}

#[test]
fn some_kinds_speak_tls() {
    for name in ["taegis", "syslog", "tcp", "smtp", "nats_jetstream", "kafka"] {
        assert!(kinds().any(|kind| kind.name() == name), "{name}");
    }
}

#[tokio::test]
async fn an_authority_that_is_not_known() {
    let (right, wrong) = (Authority::new("right"), Authority::new("wrong"));
    let leaf = right.leaf("localhost");
    refuses(&leaf, |_| String::new(), &["`CN=right`, an unknown authority", "ca_file"]).await;
    let words = ["`CN=right`, which leads to no authority in", "ca_file", "certificates between"];
    refuses(&leaf, |dir| trusting(&wrong, dir), &words).await;
    let namesake = Authority::new("right");
    let words = ["comes from `CN=right`, but was not signed with the key", "renewed", "ca_file"];
    refuses(&leaf, |dir| trusting(&namesake, dir), &words).await;
}

#[tokio::test]
async fn another_name() {
    let authority = Authority::new("ours");
    let words = ["for another name: siem.example, not `localhost`; check the host in sinks."];
    refuses(&authority.leaf("siem.example"), |dir| trusting(&authority, dir), &words).await;
    let nameless = authority.leaf_with("localhost", |params| params.subject_alt_names.clear());
    let words = ["for another name: none (`CN=localhost`; only subjectAltName counts)"];
    refuses(&nameless, |dir| trusting(&authority, dir), &words).await;
}

#[tokio::test]
async fn expired() {
    let authority = Authority::new("ours");
    let leaf = authority.leaf_with("localhost", valid(-90 * DAY, -3 * DAY));
    let words = ["expired 3 days ago, 20", "must renew it", "`siemgate sinks pin ", "--until 4h`"];
    refuses(&leaf, |dir| trusting(&authority, dir), &words).await;
}

#[tokio::test]
async fn not_valid_yet_is_probably_the_clock() {
    let authority = Authority::new("ours");
    let leaf = authority.leaf_with("localhost", valid(4 * HOUR, 90 * DAY));
    let words = ["not valid before 20", "in 4 hours", "probably your clock is at least that slow"];
    refuses(&leaf, |dir| trusting(&authority, dir), &words).await;
}

#[tokio::test]
async fn self_signed() {
    let leaf = Leaf::self_signed("localhost");
    let pin = leaf.fingerprint();
    refuses(&leaf, |_| String::new(), &["(`CN=localhost`) is self-signed", &pin, ".pins"]).await;
    // As openssl makes them: an authority's own, which no trust in it makes good for a host.
    let own = Leaf::self_signed_with("localhost", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let trust = |dir: &TempDir| format!("ca_file = {:?}", own.write(dir.path(), "own").0);
    refuses(&own, trust, &["is self-signed", &own.fingerprint(), ".pins"]).await;
    let named = |dir: &TempDir| format!("ca_file = {:?}", leaf.write(dir.path(), "own").0);
    accepts(&leaf, Demands::default(), named).await;
}

#[tokio::test]
async fn a_client_certificate_is_demanded() {
    let (authority, clients) = (Authority::new("ours"), Authority::new("clients"));
    let leaf = authority.leaf("localhost");
    for version in rustls::ALL_VERSIONS {
        let demands =
            Demands { clients_of: Some(&clients), version: Some(version), hangs_up: false };
        for kind in kinds() {
            let (server, dir) = (Server::start_with(&leaf, demands).await, folder());
            let trust = trusting(&authority, &dir);
            let none = sink(&kind, server.port, &dir, &trust);
            let words = ["demands a client certificate", ".client_cert_file"];
            refused(send(&none, &["{}"]).await, Cause::Setup, &words);
            let with = |leaf: Leaf| {
                let (pem, key) = leaf.write(dir.path(), "client");
                let trust =
                    format!("{trust}\nclient_cert_file = {pem:?}\nclient_key_file = {key:?}");
                sink(&kind, server.port, &dir, &trust)
            };
            let words = ["refuses the client certificate of sinks.", "does not know the authority"];
            let other = with(authority.leaf("gateway"));
            refused(send(&other, &["{}"]).await, Cause::Setup, &words);
            let old = with(clients.leaf_with("gateway", valid(-9 * DAY, -2 * DAY)));
            let words = ["refuses the client certificate of sinks.", "expired 2 days ago"];
            refused(send(&old, &["{}"]).await, Cause::Setup, &words);
            assert_eq!(server.received(), "", "{}: nothing before it is let in", kind.name());
            server.answers_like(&kind);
            delivered(send(&with(clients.leaf("gateway")), &["{}"]).await);
        }
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_and_hangs_up_is_down_with_the_probable_reason() {
    let authority = Authority::new("ours");
    let demands = Demands { clients_of: Some(&authority), hangs_up: true, version: None };
    let server = Server::start_with(&authority.leaf("localhost"), demands).await;
    for kind in kinds() {
        let dir = folder();
        let outcome =
            send(&sink(&kind, server.port, &dir, &trusting(&authority, &dir)), &["{}"]).await;
        refused(outcome, Cause::Down, &["asks for a client certificate", "is probably why"]);
    }
}

#[tokio::test]
async fn an_old_protocol() {
    let alert: &[u8] = b"\x15\x03\x01\x00\x02\x02\x46";
    let hello: &[u8] = b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x00\x00\x2f\x00";
    for answer in [alert, hello] {
        let (port, _server) = raw(answer).await;
        for kind in kinds() {
            let outcome = send(&sink(&kind, port, &folder(), ""), &["{}"]).await;
            refused(outcome, Cause::Setup, &["TLS 1.1 or older", "1.2 is needed"]);
        }
    }
}

#[tokio::test]
async fn a_port_without_tls() {
    // A server that expects http:// answers the greeting so.
    let (port, _server) = raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    for kind in kinds() {
        let outcome = send(&sink(&kind, port, &folder(), ""), &["{}"]).await;
        refused(outcome, Cause::Setup, &["does not speak TLS on this port; check sinks."]);
    }
}

#[tokio::test]
async fn nobody_and_a_reset_are_down() {
    let (port, server) = raw(b"").await;
    for kind in kinds() {
        refused(send(&sink(&kind, port, &folder(), ""), &["{}"]).await, Cause::Down, &[]);
    }
    server.abort();
    let _ = server.await;
    for kind in kinds() {
        refused(send(&sink(&kind, port, &folder(), ""), &["{}"]).await, Cause::Down, &["refused"]);
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_accepted_when_named() {
    let authority = Authority::new("ours");
    let leaf = authority.leaf("localhost");
    for version in rustls::ALL_VERSIONS {
        let demands = Demands { version: Some(version), ..Demands::default() };
        accepts(&leaf, demands, |dir| trusting(&authority, dir)).await;
    }
    let only = |dir: &TempDir| trusting(&authority, dir) + "\nca_only = true";
    accepts(&leaf, Demands::default(), only).await;
}

#[tokio::test]
async fn exactly_what_is_pinned_is_accepted() {
    let odd = Leaf::self_signed_with("appliance.example", valid(-90 * DAY, -3 * DAY));
    for pin in [odd.fingerprint(), odd.key_fingerprint()] {
        accepts(&odd, Demands::default(), |_| format!("pins = [\"{pin}\"]")).await;
    }
    // Good by every other rule, and yet not the one.
    let authority = Authority::new("ours");
    let (other, pin) = (authority.leaf("localhost"), odd.fingerprint());
    let words = ["none of sinks.", &other.fingerprint()];
    refuses(&other, |_| format!("pins = [\"{pin}\"]"), &words).await;
    let both = format!("pins = [\"{pin}\", \"{}\"]", other.fingerprint());
    accepts(&other, Demands::default(), |_| both.clone()).await;
}

#[tokio::test]
async fn whoever_copies_a_pinned_certificate_lacks_its_key() {
    let leaf = Leaf::self_signed("localhost");
    let trust = format!("pins = [\"{}\"]", leaf.fingerprint());
    for version in rustls::ALL_VERSIONS {
        let demands = Demands { version: Some(version), ..Demands::default() };
        let thief = Server::start_with(&leaf.stolen(), demands).await;
        for kind in kinds() {
            let outcome = send(&sink(&kind, thief.port, &folder(), &trust), &["{}"]).await;
            refused(
                outcome,
                Cause::Setup,
                &["cannot prove that it has the key of its certificate"],
            );
        }
        assert_eq!(thief.received(), "");
    }
}

#[test]
fn settings_that_contradict_are_refused() {
    let (dir, leaf) = (folder(), Leaf::self_signed("x"));
    let (pem, key) = leaf.write(dir.path(), "a");
    let other = Leaf::self_signed("y").write(dir.path(), "b").1;
    let pin = format!("pins = [\"{}\"]", leaf.fingerprint());
    let certificate = format!("client_cert_file = {pem:?}");
    for kind in kinds() {
        for (trust, words) in [
            (format!("{pin}\nca_file = {pem:?}"), ".pins: cannot stand beside ca_file"),
            ("ca_only = true".into(), ".ca_only: needs ca_file"),
            ("pins = [\"sha256:ab\"]".into(), "must be `sha256:` and 64 hex digits"),
            (certificate.clone(), ".client_cert_file: needs client_key_file"),
            (format!("client_key_file = {key:?}"), ".client_key_file: needs client_cert_file"),
            (format!("{certificate}\nclient_key_file = {other:?}"), "is not the key of"),
            (format!("{certificate}\nclient_key_file = {pem:?}"), "holds no private key"),
        ] {
            let problems = build(&sample(&kind, 9, &dir, &trust)).err().map(told);
            let problems = problems.unwrap_or_else(|| panic!("{}: accepted: {trust}", kind.name()));
            assert!(problems.contains(words), "{}: `{words}` in {problems}", kind.name());
        }
    }
}
