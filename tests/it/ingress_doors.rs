//! Who may post, and where.

use reqwest::Method;

use super::gateway::{Gateway, told};

const TWO_SOURCES: &str = r#"
[sources.superna]
type = "superna"
path = "/webhook"
[sources.scanner]
type = "json"
path = "/hooks/scanner/"
[routes.all]
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#;

#[tokio::test]
async fn a_source_is_reached_by_its_name_and_by_its_path() {
    let gateway = Gateway::start(TWO_SOURCES).await;
    for (number, (path, source)) in [
        ("/webhook", "superna"),
        ("/webhook/superna", "superna"),
        ("/webhook/superna/", "superna"),
        ("/webhook/scanner", "scanner"),
        ("/hooks/scanner", "scanner"),
        ("/hooks/scanner/?token=none", "scanner"),
    ]
    .into_iter()
    .enumerate()
    {
        let labels = [("source", source)];
        let before = gateway.metric("siemgate_ingress_events_total", &labels).await.unwrap();
        gateway.post(path, format!("{{\"n\":{number}}}")).await.ids();
        let after = gateway.metric("siemgate_ingress_events_total", &labels).await.unwrap();
        assert_eq!(after - before, 1.0, "{path} leads to {source}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn wrong_paths_and_methods_get_a_hint() {
    let gateway = Gateway::start(TWO_SOURCES).await;
    for path in ["/", "/webhook/nobody", "/Webhook", "/webhook/superna/x"] {
        let answer = gateway.post(path, "{}").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text.contains("/webhook/superna"), "{path}: {answer:?}");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/webhook", gateway.webhook);
        let answer = told(client.request(method.clone(), url)).await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.headers["allow"], "POST");
        assert!(answer.text.contains("POST"), "{answer:?}");
    }
    let nowhere = [("source", "none"), ("reason", "unknown_source")];
    assert_eq!(gateway.metric("siemgate_ingress_refused_total", &nowhere).await, Some(4.0));
    assert_eq!(gateway.metric("siemgate_log_head_position", &[]).await, Some(0.0));
    gateway.finish().await;
}

#[tokio::test]
async fn a_sender_that_is_not_allowed_leaves_nothing_behind() {
    let gateway = Gateway::start(
        r#"
[sources.far]
type = "json"
allow = ["192.0.2.0/24"]
[sources.near]
type = "json"
allow = ["192.0.2.0/24", "127.0.0.1"]
[unmatched]
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#,
    )
    .await;
    for body in ["{\"good\":1}", "{\"bad\":", ""] {
        let answer = gateway.post("/webhook/far", body).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.text.contains("127.0.0.1") && answer.text.contains("allow"), "{answer:?}");
    }
    let listed = gateway.cli(&["quarantine", "list", "--json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&listed.out).unwrap()["open"], 0);
    assert_eq!(gateway.metric("siemgate_log_head_position", &[]).await, Some(0.0));
    let refused = [("source", "far"), ("reason", "sender")];
    assert_eq!(gateway.metric("siemgate_ingress_refused_total", &refused).await, Some(3.0));
    gateway.post("/webhook/near?wait=30s", "{\"good\":1}").await.ids();
    assert_eq!(gateway.lines("events.ndjson"), ["{\"good\":1}"]);
    gateway.finish().await;
}

#[tokio::test]
async fn a_token_in_any_of_the_configured_headers_opens_the_door() {
    let mut gateway = Gateway::prepared(
        r#"
[sources.guarded]
type = "json"
auth = [
  { header = "X-Webhook-Token", secret = { env = "FIRST_TOKEN" } },
  { header = "X-Other", secret = { file = "{{dir}}/second" } },
]
[unmatched]
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#,
    );
    gateway.set_env("FIRST_TOKEN", "open-sesame");
    std::fs::write(gateway.path("second"), "another-one\n").unwrap();
    gateway.launch().await;
    for (header, token, status) in [
        ("X-Webhook-Token", "open-sesame", 200),
        ("x-webhook-token", "open-sesame", 200),
        ("X-Other", "another-one", 200),
        ("X-Webhook-Token", "another-one", 401),
        ("X-Webhook-Token", "open-sesam", 401),
        ("X-Webhook-Token", "open-sesame1", 401),
        ("X-Webhook-Token", "", 401),
        ("X-Unrelated", "open-sesame", 401),
    ] {
        let request = gateway.request("/webhook?wait=30s").header(header, token).body("{\"n\":1}");
        let answer = told(request).await;
        assert_eq!(answer.status, status, "{header}: {token}: {answer:?}");
        assert!(!answer.text.contains("sesam") && !answer.text.contains("another"), "{answer:?}");
    }
    assert_eq!(gateway.post("/webhook", "{\"broken").await.status, 401, "before any look inside");
    assert_eq!(gateway.lines("events.ndjson").len(), 3);
    let listed = gateway.cli(&["quarantine", "list"]).await;
    assert!(listed.out.contains("0 open"), "{listed:?}");
    assert!(!gateway.journal_text().contains("sesam"));
    gateway.finish().await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_sender_is_whom_the_proxy_names() {
    let config = r#"
[sources.far]
type = "json"
allow = ["192.0.2.0/24"]
[unmatched]
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#;
    let gateway = Gateway::start(config).await;
    let post = async |forwarded: &str, body: &'static str| {
        let request = gateway.request("/webhook").header("X-Forwarded-For", forwarded);
        told(request.body(body)).await
    };
    // Nobody is trusted unless named.
    assert_eq!(post("192.0.2.1", "{}").await.status, 403);
    gateway.configure(
        "20-proxies.toml",
        "[server]\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n",
    );
    let reloaded = gateway.cli(&["reload"]).await;
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    for (forwarded, status) in [
        ("192.0.2.1", 200),
        ("198.51.100.7, 192.0.2.1, 10.0.0.3", 200),
        ("192.0.2.1:4711", 200),
        ("192.0.2.1, 198.51.100.7", 403),
        ("192.0.2.1, unknown", 403),
        ("", 403),
    ] {
        let answer = post(forwarded, "{}").await;
        assert_eq!(answer.status, status, "{forwarded}: {answer:?}");
    }
    let garbled = post("192.0.2.1, unknown", "{}").await;
    assert!(garbled.text.contains("X-Forwarded-For"), "{garbled:?}");
    assert!(post("192.0.2.1, 198.51.100.7", "{}").await.text.contains("198.51.100.7 may not"));
    assert_eq!(post("192.0.2.44", "{broken").await.status, 400);
    let listed = gateway.cli(&["quarantine", "list", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed["letters"][0]["peer"], "192.0.2.44");
    gateway.finish().await;
}
