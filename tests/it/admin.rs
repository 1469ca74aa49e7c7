//! Who may see events and steer: the socket's owner, and whoever has the token.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use super::gateway::{Gateway, told, until};

const CONFIG: &str = r#"
[server]
metrics = "127.0.0.1:0"
[sources.any]
type = "json"
[unmatched]
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#;

/// Everything that shows events or steers.
const CLOSED: [(Method, &str); 18] = [
    (Method::POST, "/-/reload"),
    (Method::POST, "/api/v1/explain"),
    (Method::POST, "/api/v1/sinks/archive/forget"),
    (Method::GET, "/api/v1/journal"),
    (Method::GET, "/api/v1/events"),
    (Method::GET, "/api/v1/events/01a20916-446d-7783-a557-c6f7f2f2a41c/body"),
    (Method::GET, "/api/v1/events/01a20916-446d-7783-a557-c6f7f2f2a41c"),
    (Method::GET, "/api/v1/ledger"),
    (Method::GET, "/api/v1/report?since=2026-01-01T00:00:00Z"),
    (Method::GET, "/api/v1/dead"),
    (Method::GET, "/api/v1/dead/0"),
    (Method::POST, "/api/v1/dead/replay"),
    (Method::POST, "/api/v1/dead/0/replay"),
    (Method::POST, "/api/v1/dead/0/drop"),
    (Method::GET, "/api/v1/quarantine"),
    (Method::GET, "/api/v1/quarantine/0"),
    (Method::POST, "/api/v1/quarantine/0/replay"),
    (Method::POST, "/api/v1/quarantine/0/drop"),
];

const TOKEN: &str =
    "[server]\nadmin_token = [{ file = \"{{dir}}/new\" }, { file = \"{{dir}}/old\" }]\n";

fn with_token(gateway: &Gateway) {
    std::fs::write(gateway.path("new"), "new-token\n").unwrap();
    std::fs::write(gateway.path("old"), "old-token\n").unwrap();
    gateway.configure("30-token.toml", TOKEN);
}

/// A request over the network.
fn request(gateway: &Gateway, method: &Method, path: &str) -> RequestBuilder {
    let client = Client::builder().no_proxy().build().unwrap();
    client.request(method.clone(), format!("{}{path}", gateway.admin))
}

/// The address of the listener for metrics, from the journal.
fn metrics(gateway: &Gateway) -> String {
    let ready = gateway.journal().into_iter().rfind(|line| line["message"] == "ready").unwrap();
    ready["metrics"].as_str().unwrap().trim_matches(['[', ']']).to_owned()
}

#[tokio::test]
async fn without_a_token_the_network_sees_metrics_and_health_only() {
    let gateway = Gateway::start(CONFIG).await;
    gateway.post("/webhook", "{\"secret\":").await;
    for (method, path) in &CLOSED {
        let refused = told(request(&gateway, method, path).bearer_auth("")).await;
        assert_eq!(refused.status, 403, "{method} {path}: {refused:?}");
        assert!(
            refused.text.contains("admin.sock") && refused.text.contains("admin_token"),
            "{refused:?}"
        );
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
    }
    // Over the socket all of it answers.
    for (method, path) in &CLOSED {
        let answer = told(gateway.over_socket(method.clone(), path)).await;
        assert!(![401, 403].contains(&answer.status), "{method} {path}: {answer:?}");
    }
    assert_eq!(gateway.cli(&["quarantine", "list"]).await.code, Some(0));
    let page = gateway.over_socket(Method::GET, "/api/v1/dead").header("Origin", "http://x");
    assert_eq!(told(page).await.status, 403, "no web page, wherever it comes from");
    gateway.finish().await;
}

#[tokio::test]
async fn either_token_opens_the_network_and_wrong_ones_are_slowed() {
    let gateway = Gateway::prepared(CONFIG);
    with_token(&gateway);
    let mut gateway = gateway;
    gateway.launch().await;
    for token in ["new-token", "old-token"] {
        for (method, path) in &CLOSED {
            let answer = told(request(&gateway, method, path).bearer_auth(token)).await;
            assert!(![401, 403].contains(&answer.status), "{method} {path}: {answer:?}");
        }
    }
    let none = told(request(&gateway, &Method::GET, "/api/v1/dead")).await;
    assert_eq!(
        (none.status, &none.headers["www-authenticate"]),
        (401, &"Bearer realm=\"siemgate\"".parse().unwrap())
    );
    let guesses: Vec<_> = (0..40)
        .map(|n| tokio::spawn(told(request(&gateway, &Method::GET, "/api/v1/dead").bearer_auth(n))))
        .collect();
    let (mut wrong, mut slowed) = (0, 0);
    for guess in guesses {
        match guess.await.unwrap().status {
            401 => wrong += 1,
            429 => slowed += 1,
            other => panic!("{other}"),
        }
    }
    assert!(wrong >= 16 && slowed > 0, "{wrong} {slowed}");
    let right =
        told(request(&gateway, &Method::GET, "/api/v1/dead").bearer_auth("new-token")).await;
    assert_eq!(right.status, 200, "the right one is not");
    let shown = gateway.cli(&["config", "show"]).await.out + &gateway.journal_text();
    assert!(!shown.contains("new-token") && !shown.contains("old-token"));
    // Changed by a reload, without a restart.
    gateway.configure("30-token.toml", "");
    assert_eq!(gateway.cli(&["reload"]).await.code, Some(0));
    let after =
        told(request(&gateway, &Method::GET, "/api/v1/dead").bearer_auth("new-token")).await;
    assert_eq!(after.status, 403);
    gateway.finish().await;
}

#[tokio::test]
async fn the_listener_for_metrics_serves_nothing_else() {
    let gateway = Gateway::prepared(CONFIG);
    with_token(&gateway);
    let mut gateway = gateway;
    gateway.launch().await;
    let client = Client::builder().no_proxy().build().unwrap();
    let base = format!("http://{}", metrics(&gateway));
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = told(client.get(format!("{base}{path}")).header("Host", "any.example")).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    for (method, path) in &CLOSED {
        let request = client.request(method.clone(), format!("{base}{path}"));
        let answer = told(request.bearer_auth("new-token")).await;
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
    }
    let post = told(client.post(format!("{base}/metrics"))).await;
    assert!([404, 405].contains(&post.status), "{post:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn the_socket_is_private_replaces_a_dead_one_and_goes_with_the_gateway() {
    let mut gateway = Gateway::start(CONFIG).await;
    let path = gateway.path("data/admin.sock");
    let facts = std::fs::metadata(&path).unwrap();
    assert!(facts.file_type().is_socket());
    assert_eq!(facts.permissions().mode() & 0o777, 0o600);
    gateway.kill();
    assert!(path.exists(), "as after a crash");
    gateway.launch().await;
    assert_eq!(gateway.cli(&["dead", "list"]).await.code, Some(0));
    gateway.stop().await;
    assert!(!path.exists());
    // Somebody else's is left alone, and webhooks arrive all the same.
    let other = UnixListener::bind(&path).unwrap();
    gateway.launch().await;
    assert!(gateway.journal_text().contains("no admin socket"));
    gateway.post("/webhook?wait=30s", "{}").await.ids();
    gateway.stop().await;
    assert!(path.exists());
    drop(other);
    gateway.configure("40-socket.toml", "[server]\nadmin_socket = \"{{dir}}/other.sock\"\n");
    gateway.launch().await;
    assert!(gateway.path("other.sock").exists());
    assert_eq!(gateway.cli(&["dead", "list"]).await.code, Some(0), "the commands know where");
    gateway.configure("40-socket.toml", "[server]\nadmin_socket = \"\"\n");
    let needs = until("the reload names it", async || {
        let lines = gateway.journal();
        lines.into_iter().rfind(|line| line["message"] == "reloaded")
    });
    assert!(needs.await.to_string().contains("server.admin_socket"));
    gateway.stop().await;
    assert!(!gateway.path("other.sock").exists());
    gateway.launch().await;
    let started = gateway.journal().into_iter().filter(|line| line["message"] == "ready").count();
    assert_eq!(started, 5, "it does without one");
    gateway.finish().await;
}

#[tokio::test]
async fn the_commands_fall_back_to_the_token_and_say_what_to_do() {
    let gateway = Gateway::prepared(CONFIG);
    gateway.configure("40-socket.toml", "[server]\nadmin_socket = \"\"\n");
    let mut gateway = gateway;
    gateway.launch().await;
    let refused = gateway.cli(&["dead", "list"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("no admin socket") && refused.err.contains("server.admin_token"),
        "{refused:?}"
    );
    with_token(&gateway);
    // SIGHUP needs neither.
    let process = rustix::process::Pid::from_raw(gateway.process() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
    until("the token opens", async || {
        let listed = gateway.cli(&["dead", "list", "--json"]).await;
        let open = serde_json::from_str::<Value>(&listed.out).ok()?["open"].as_u64();
        (open == Some(0)).then_some(())
    })
    .await;
    let path = gateway.path("nobodys.sock");
    drop(UnixListener::bind(&path).unwrap());
    gateway.configure("40-socket.toml", "[server]\nadmin_socket = \"{{dir}}/nobodys.sock\"\n");
    let listed = gateway.cli(&["dead", "list"]).await;
    assert_eq!(listed.code, Some(0), "a dead socket is not the end: {listed:?}");
    gateway.stop().await;
    let alone = gateway.cli(&["dead", "list"]).await;
    assert_eq!(alone.code, Some(1));
    for says in ["nobodys.sock", "http://127.0.0.1", "is `siemgate run` running"] {
        assert!(alone.err.contains(says), "{says}: {alone:?}");
    }
    gateway.finish().await;
}
