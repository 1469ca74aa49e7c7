//! The vendor guide's way: Defender's webhook in, Sophos out, and the answer says so.

use serde_json::Value;

use super::gateway::{Gateway, fixture, told};
use super::peer::{Answer, Peer};

/// The recommended drop-in, pointed at a stand-in, over an archive of everything.
fn recommended(peer: &Peer) -> String {
    let shipped = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config.d").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let replaced = |text: String, from: &str, to: &str| {
        assert!(text.contains(from), "the shipped file no longer has {from}");
        text.replace(from, to)
    };
    let sophos = shipped("50-sophos.toml.example");
    let sophos = replaced(
        sophos,
        "https://ingest.example.invalid/http-endpoint/v1/REPLACE-ME",
        &format!("{}/http-endpoint/v1/a%2Fb?x=%20", peer.url()),
    );
    let sophos = replaced(sophos, "/etc/siemgate/sophos.key", "{{dir}}/sophos.key");
    let archive = replaced(shipped("20-archive.toml"), "data/out", "{{dir}}/data/out");
    [shipped("10-superna.toml"), archive, sophos].join("\n")
}

async fn taegis() -> Peer {
    let peer = Peer::start().await;
    peer.always(Answer::ok(r#"{"successCount":1}"#));
    peer
}

async fn started(peer: &Peer) -> Gateway {
    let mut gateway = Gateway::prepared(&recommended(peer));
    std::fs::write(gateway.path("sophos.key"), "sesame-of-the-tenant\n").unwrap();
    gateway.launch().await;
    gateway
}

fn delivery<'a>(told: &'a Value, sink: &str) -> &'a Value {
    let deliveries = told["events"][0]["deliveries"].as_array().unwrap();
    deliveries.iter().find(|delivery| delivery["sink"] == sink).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn the_guides_curl_shows_that_it_is_in_sophos_byte_for_byte() {
    let peer = taegis().await;
    let gateway = started(&peer).await;
    let body = fixture("superna-critical-locked-out.json");
    let told = gateway.post("/webhook?wait=30s", body.clone()).await;
    assert_eq!(told.status, 200, "{told:?}");
    let answer = told.json();
    assert_eq!((&answer["accepted"], &answer["settled"]), (&1.into(), &true.into()), "{answer}");
    let sophos = delivery(&answer, "sophos");
    assert_eq!(sophos["state"], "delivered", "{answer}");
    assert_eq!((&sophos["status"], &sophos["successCount"]), (&200.into(), &1.into()));
    assert_eq!(delivery(&answer, "archive")["state"], "delivered", "{answer}");
    let [request] = &peer.requests()[..] else { panic!("not one request") };
    assert_eq!(request.body, body, "the body is what Defender sent");
    assert_eq!((&*request.method, &*request.path), ("POST", "/http-endpoint/v1/a%2Fb?x=%20"));
    assert_eq!(request.header("authorization"), Some("Bearer sesame-of-the-tenant"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    gateway.finish().await;
}

#[tokio::test]
async fn the_content_type_does_not_matter() {
    let peer = taegis().await;
    let gateway = started(&peer).await;
    let types = [
        "application/json",
        "text/plain; charset=latin1",
        "application/x-www-form-urlencoded",
        "nonsense",
    ];
    for (number, kind) in types.into_iter().enumerate() {
        let body = format!("{{\"severity\":\"CRITICAL\",\"state\":\"LOCKED_OUT\",\"n\":{number}}}");
        let request = gateway.request("/webhook?wait=30s").header("Content-Type", kind);
        let answer = told(request.body(body.clone())).await;
        assert_eq!(answer.status, 200, "{kind}: {answer:?}");
        assert_eq!(peer.bodies().last().unwrap(), body.as_bytes(), "{kind}");
    }
    gateway.finish().await;
}

/// Fixture, severity and state in the journal, whether Sophos gets it.
const FIXTURES: [(&str, &str, &str, bool); 6] = [
    ("superna-critical-locked-out", "critical", "locked_out", true),
    ("superna-object-storage", "critical", "locked_out", true),
    ("superna-major-delayed-lockout", "high", "delayed_lockout", true),
    ("superna-warning", "medium", "warning", false),
    ("superna-odd-types", "medium", "warning", false),
    ("superna-access-restored", "info", "access_restored", false),
];

#[tokio::test]
async fn every_fixture_goes_where_the_recommended_routes_say() {
    let peer = taegis().await;
    let gateway = started(&peer).await;
    let mut expected = Vec::new();
    for (name, severity, state, to_sophos) in FIXTURES {
        let body = fixture(&format!("{name}.json"));
        let told = gateway.post("/webhook/superna?wait=30s", body.clone()).await;
        let [id] = &told.ids()[..] else { panic!("{name}: not one event") };
        let answer = told.json();
        assert_eq!(delivery(&answer, "archive")["state"], "delivered", "{name}: {answer}");
        assert_eq!(!delivery(&answer, "sophos").is_null(), to_sophos, "{name}: {answer}");
        let [line] = &gateway.told_of("delivered", "archive", id)[..] else {
            panic!("{name}: not one line in the journal")
        };
        assert_eq!(
            (&line["severity"], &line["state"]),
            (&severity.into(), &state.into()),
            "{name}"
        );
        assert_eq!(gateway.told_of("delivered", "sophos", id).len(), usize::from(to_sophos));
        expected.extend(to_sophos.then_some(body));
    }
    assert_eq!(peer.bodies(), expected, "Sophos has the originals, in order");
    let archive = gateway.lines("data/out/events.ndjson");
    let archived: Vec<Value> =
        archive.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sent = FIXTURES.map(|(name, ..)| fixture(&format!("{name}.json")));
    let sent: Vec<Value> = sent.iter().map(|body| serde_json::from_slice(body).unwrap()).collect();
    assert_eq!(archived, sent, "the archive has everything, one a line");
    gateway.finish().await;
}

#[tokio::test]
async fn the_journal_names_no_person_no_file_and_no_secret() {
    let peer = taegis().await;
    // A destination that echoes what it must not.
    peer.always(Answer::ok(r#"{"successCount":1,"echo":"Bearer sesame-of-the-tenant"}"#));
    let gateway = started(&peer).await;
    for (name, ..) in FIXTURES {
        gateway.post("/webhook?wait=30s", fixture(&format!("{name}.json"))).await.ids();
    }
    assert_eq!(gateway.post("/webhook", "{\"user\":\"AD01\\\\demouser\",").await.status, 400);
    peer.always(Answer::new(400, "no: sesame-of-the-tenant, and AD01\\demouser is unknown"));
    let body = r#"{"severity":"critical","userName":"AD01\\demouser","files":["q9.locky"]}"#;
    gateway.post("/webhook", body).await.ids();
    peer.wait_for(4).await;
    let seen = [gateway.journal_text(), gateway.metrics().await].concat();
    for secret in [
        "demouser",
        "jdoe",
        "svc-backup",
        "app1",
        "S-1-5-21",
        "172.31.1.45",
        "10.20.30",
        "locky",
        "a.dwg",
        "finance",
        "sesame",
    ] {
        assert!(!seen.contains(secret), "the journal or a metric has {secret}: {seen}");
    }
    gateway.finish().await;
}
