//! `siemgate sinks pin`: a person accepts exactly the certificate that is served, for a while, on the
//! record. And what a running gateway does when files or clocks change under its TLS.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::Value;

use super::certificates::{Authority, Demands, Leaf, Server, valid};
use super::gateway::{Gateway, until};
use super::peer::{Answer, Peer};

const DAY: i64 = 86_400;

/// A gateway whose sink `siem` is at `localhost:port`, with `more` among its settings.
async fn gateway(port: u16, more: &str) -> Gateway {
    let mut gateway = Gateway::prepared(&format!(
        "[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n\
         [routes.all]\nsinks = [\"siem\"]\n\
         [sinks.siem]\ntype = \"taegis\"\nurl = \"https://localhost:{port}/x\"\n\
         key = {{ file = \"{{{{dir}}}}/key\" }}\n{more}\n"
    ));
    std::fs::write(gateway.path("key"), "a-key\n").unwrap();
    std::fs::set_permissions(gateway.path("key"), PermissionsExt::from_mode(0o600)).unwrap();
    gateway.launch().await;
    gateway
}

async fn post(gateway: &Gateway, number: usize) {
    let event = format!(r#"{{"severity":"CRITICAL","state":"LOCKED_OUT","id":"e-{number}"}}"#);
    gateway.post("/webhook", event).await.ids();
}

/// Wait until the journal tells of trouble with the sink in these words.
async fn until_told(gateway: &Gateway, words: &str) -> Value {
    let what = format!("the journal says `{words}`");
    let found = until(&what, async || {
        gateway.journal().into_iter().find(|line| line.to_string().contains(words))
    });
    found.await
}

#[tokio::test]
async fn a_pin_is_accepted_for_its_time_on_the_record_and_for_that_certificate_alone() {
    let expired = Leaf::self_signed_with("localhost", valid(-90 * DAY, -3 * DAY));
    let server = Server::start(&expired).await;
    let gateway = gateway(server.port, "").await;
    post(&gateway, 1).await;
    gateway.until_state("siem", "parked").await;
    until_told(&gateway, "expired 3 days ago").await;

    // Looking accepts nothing; neither does a no, nor silence.
    let shown = gateway.cli(&["sinks", "pin", "siem"]).await;
    let print = expired.fingerprint();
    for says in ["subject      CN=localhost", "(self-signed)", "names        localhost", &print] {
        assert!(shown.out.contains(says), "{says}: {shown:?}");
    }
    assert!(shown.out.contains("It is refused: ") && shown.code == Some(0), "{shown:?}");
    let unanswered = gateway.cli(&["sinks", "pin", "siem", "--until", "4h"]).await;
    assert!(unanswered.err.contains("nothing was accepted"), "{unanswered:?}");
    assert!(!gateway.path("data/pins.json").exists());
    for time in ["0s", "8d"] {
        let told = gateway.cli(&["sinks", "pin", "siem", "--until", time, "--yes"]).await;
        assert!(told.err.contains("at most 7d") && told.code == Some(1), "{told:?}");
    }

    let pinned = gateway.cli(&["sinks", "pin", "siem", "--until", "4h", "--yes"]).await;
    assert_eq!(pinned.code, Some(0), "{pinned:?}");
    assert!(pinned.out.contains("The running gateway goes by it."), "{pinned:?}");
    gateway.until_settled("siem", "delivered", 1).await;
    assert_eq!(std::fs::metadata(gateway.path("data/pins.json")).unwrap().mode() & 0o777, 0o600);
    let warning = format!("accepts the certificate {print} (`CN=localhost`) until ");
    until_told(&gateway, &warning).await;
    let checked = gateway.cli(&["check"]).await;
    assert!(checked.out.contains(&warning) && checked.out.contains("--remove"), "{checked:?}");
    let listed = gateway.cli(&["sinks", "pins"]).await;
    assert!(listed.out.contains("siem: holds until ") && listed.out.contains(&print), "{listed:?}");

    // Another certificate is no better than before.
    server.show(&Leaf::self_signed("localhost"));
    gateway.cli(&["reload"]).await;
    let told = gateway.cli(&["sinks", "pin", "siem"]).await;
    assert!(told.out.contains("It is refused: "), "{told:?}");
    server.show(&expired);

    let removed = gateway.cli(&["sinks", "pin", "siem", "--remove"]).await;
    assert!(removed.out.contains("goes by it") && removed.code == Some(0), "{removed:?}");
    post(&gateway, 2).await;
    gateway.until_state("siem", "parked").await;
    assert_eq!(gateway.settled("siem", "delivered").await, 1);
    let again = gateway.cli(&["sinks", "pin", "siem", "--remove"]).await;
    assert!(again.err.contains("no pin that holds") && again.code == Some(1), "{again:?}");
    let listed = gateway.cli(&["sinks", "pins", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert!(listed[0]["ended_by"].is_string() && listed[0]["by"].is_string(), "{listed}");

    server.show(&Leaf::self_signed("localhost"));
    finish_delivered(gateway, &server).await;
}

/// Let the sink deliver what waits, so that the books are closed with nothing left.
async fn finish_delivered(gateway: Gateway, server: &Server) {
    let pinned = gateway.cli(&["sinks", "pin", "siem", "--until", "1h", "--yes"]).await;
    assert_eq!(pinned.code, Some(0), "{pinned:?}");
    gateway.until_metric("siemgate_delivery_lag_events", &[("sink", "siem")], 0.0).await;
    assert!(server.received().contains("e-2"));
    gateway.finish().await;
}

#[tokio::test]
async fn a_pin_ends_by_itself_also_for_a_connection_that_is_open() {
    let leaf = Leaf::self_signed("localhost");
    let server = Server::start(&leaf).await;
    let gateway = gateway(server.port, "").await;
    // Long enough for a busy machine to deliver by it.
    let pinned = gateway.cli(&["sinks", "pin", "siem", "--until", "8s", "--yes"]).await;
    assert_eq!(pinned.code, Some(0), "{pinned:?}");
    post(&gateway, 1).await;
    gateway.until_settled("siem", "delivered", 1).await;
    until_told(&gateway, "a pin has ended").await;
    until("the sink is built without it", async || {
        let reloads = gateway.journal().into_iter().filter(|line| line["message"] == "reloaded");
        (reloads.count() == 2).then_some(())
    })
    .await;
    post(&gateway, 2).await;
    gateway.until_state("siem", "parked").await;
    assert!(server.received().contains("e-1") && !server.received().contains("e-2"));
    let listed = gateway.cli(&["sinks", "pins"]).await;
    assert!(listed.out.contains("siem: ended ") && listed.out.contains("0 of 1"), "{listed:?}");
    let checked = gateway.cli(&["check"]).await;
    assert!(!checked.out.contains("accepts the certificate"), "{checked:?}");
    finish_delivered(gateway, &server).await;
}

#[tokio::test]
async fn a_record_that_others_may_write_pins_nothing_and_is_told() {
    let server = Server::start(&Leaf::self_signed("localhost")).await;
    let gateway = gateway(server.port, "").await;
    gateway.cli(&["sinks", "pin", "siem", "--until", "4h", "--yes"]).await;
    let open = PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(gateway.path("data/pins.json"), open).unwrap();
    gateway.cli(&["reload"]).await;
    until_told(&gateway, "cannot be used, so no pin in it holds: others may write it").await;
    post(&gateway, 2).await;
    gateway.until_state("siem", "parked").await;
    std::fs::remove_file(gateway.path("data/pins.json")).unwrap();
    finish_delivered(gateway, &server).await;
}

#[tokio::test]
async fn what_cannot_be_pinned_is_told() {
    let peer = Peer::start().await;
    let gateway = gateway(peer.port(), "").await;
    gateway.configure(
        "20-plain.toml",
        "[sinks.archive]\ntype = \"file\"\npath = \"{{dir}}/a.ndjson\"\n",
    );
    let told = gateway.cli(&["sinks", "pin", "archive", "--until", "1h", "--yes"]).await;
    assert!(told.err.contains("archive does not speak TLS") && told.code == Some(1), "{told:?}");
    let told = gateway.cli(&["sinks", "pin", "sime", "--until", "1h", "--yes"]).await;
    assert!(told.err.contains("did you mean `siem`?") && told.code == Some(1), "{told:?}");
    let told = gateway.cli(&["sinks", "pin", "siem", "--until", "1h", "--yes"]).await;
    assert!(told.err.contains("no certificate was shown: https://localhost:"), "{told:?}");
    assert!(!gateway.path("data/pins.json").exists());
    gateway.finish().await;
}

#[tokio::test]
async fn a_rotated_client_certificate_is_shown_after_a_reload() {
    let (authority, clients) = (Authority::new("ours"), Authority::new("clients"));
    let demands = Demands { clients_of: Some(&clients), ..Demands::default() };
    let server = Server::start_with(&authority.leaf("localhost"), demands).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
    let (pem, key) = authority.leaf("gateway").write(dir.path(), "client");
    let more = format!(
        "ca_file = {:?}\nclient_cert_file = {pem:?}\nclient_key_file = {key:?}",
        dir.path().join("ca.pem")
    );
    let gateway = gateway(server.port, &more).await;
    post(&gateway, 1).await;
    gateway.until_state("siem", "parked").await;
    until_told(&gateway, "refuses the client certificate of sinks.siem.client_cert_file").await;
    clients.leaf("gateway").write(dir.path(), "client");
    let reloaded = gateway.cli(&["reload"]).await;
    assert!(reloaded.out.contains("changed: siem"), "{reloaded:?}");
    gateway.until_settled("siem", "delivered", 1).await;
    assert!(server.received().contains("e-1"));
    // A key that everybody may read is told of, like any secret.
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let checked = gateway.cli(&["check"]).await;
    assert!(checked.out.contains("sinks.siem.client_key_file: every user"), "{checked:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_named_when_another_destination_tells_the_time() {
    let authority = Authority::new("ours");
    let server = Server::start(&authority.leaf_with("localhost", valid(3 * 3_600, 90 * DAY))).await;
    let peer = Peer::start().await;
    let there = jiff::Timestamp::now().as_second() + 4 * 3_600;
    let there = jiff::Timestamp::from_second(there).unwrap();
    let date = there.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    peer.always(Answer::ok("{}").header("Date", &date));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
    let gateway = gateway(server.port, &format!("ca_file = {:?}", dir.path().join("ca.pem"))).await;
    post(&gateway, 1).await;
    until_told(&gateway, "in 3 hours by this machine's clock").await;
    gateway.configure(
        "20-other.toml",
        &format!(
            "[sinks.other]\ntype = \"taegis\"\nurl = \"{}/x\"\nkey = {{ file = \"{{{{dir}}}}/key\" }}\n\
             [routes.other]\nsinks = [\"other\"]\n",
            peer.url()
        ),
    );
    gateway.cli(&["reload"]).await;
    post(&gateway, 2).await;
    gateway.until_settled("other", "delivered", 1).await;
    // Tried anew, and so told anew.
    gateway.configure("30-siem.toml", "[sinks.siem.delivery]\ntimeout = \"29s\"\n");
    gateway.cli(&["reload"]).await;
    until_told(&gateway, "your clock is 4 hours slow by what the last destination").await;
    finish_delivered(gateway, &server).await;
}
