//! TLS at the doors: what is accepted, what is refused, and what is said about it.

use std::time::SystemTime;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use reqwest::{Certificate, Client, ClientBuilder, Identity};
use serde_json::Value;
use siemgate::core::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::gateway::{Gateway, Told, told, until};

const HOUR: i64 = 3_600;

/// An authority, and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for `name`, valid from and to so many seconds from now.
    fn sign(&self, name: &str, from: i64, to: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params(name, from, to).signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn good(&self, name: &str) -> (String, String) {
        self.sign(name, -HOUR, 90 * 24 * HOUR)
    }
}

fn params(name: &str, from: i64, to: i64) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let date = |seconds: i64| {
        let time = Timestamp::from_second(now + seconds).unwrap();
        let date = rcgen::date_time_ymd(1970, 1, 1);
        date + std::time::Duration::from_secs(time.as_second() as u64)
    };
    (params.not_before, params.not_after) = (date(from), date(to));
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} itself"));
    params
}

fn self_signed(name: &str) -> (String, String) {
    self_signed_for(name, HOUR)
}

/// Certificate and key, valid for so many seconds from now.
pub fn self_signed_for(name: &str, seconds: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let pem = params(name, -HOUR, seconds).self_signed(&key).unwrap().pem();
    (pem, key.serialize_pem())
}

/// A gateway with this `[server.tls]` and these files in its folder.
struct Doors {
    gateway: Gateway,
    ours: Authority,
}

const SOURCES: &str = r#"
[sources.any]
type = "json"
[unmatched]
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#;

impl Doors {
    /// Certificate and authority are good; `more` goes into `[server.tls]`.
    async fn open(more: &str) -> Self {
        let ours = Authority::new("our authority");
        let doors = Self { gateway: Gateway::prepared(SOURCES), ours };
        doors.show(&doors.ours.good("localhost"));
        std::fs::write(doors.gateway.path("ca.pem"), &doors.ours.pem).unwrap();
        doors.configure(more);
        let mut doors = doors;
        doors.gateway.launch().await;
        doors
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "[server.tls]\nlisten = \"127.0.0.1:0\"\ncert_file = \"{{{{dir}}}}/cert.pem\"\nkey_file = \"{{{{dir}}}}/key.pem\"\n{more}\n"
        );
        self.gateway.configure("20-tls.toml", &text);
    }

    fn show(&self, (certificate, key): &(String, String)) {
        std::fs::write(self.gateway.path("cert.pem"), certificate).unwrap();
        std::fs::write(self.gateway.path("key.pem"), key).unwrap();
    }

    fn port(&self) -> u16 {
        self.gateway.secure.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// A client that trusts our authority.
    fn client(&self) -> ClientBuilder {
        let root = Certificate::from_pem(self.ours.pem.as_bytes()).unwrap();
        Client::builder().no_proxy().tls_certs_only([root])
    }

    /// POST with `client`, as to `https://localhost`.
    async fn post(&self, client: ClientBuilder) -> Result<Told, String> {
        let url = format!("https://localhost:{}/webhook", self.port());
        let request = client.build().unwrap().post(url).body("{\"n\":1}");
        match request.send().await {
            Ok(response) => Ok(Told {
                status: response.status().as_u16(),
                headers: response.headers().clone(),
                text: response.text().await.unwrap(),
            }),
            Err(error) => Err(format!("{error:?}")),
        }
    }

    /// What the journal says about the last refusal for `reason`, which is also counted.
    async fn said(&self, reason: &str) -> String {
        let labels = [("listener", "webhook"), ("reason", reason)];
        self.gateway.until_metric_above("siemgate_tls_handshakes_failed_total", &labels, 0.0).await;
        let lines = until("the refusal is in the journal", async || {
            let lines = self.gateway.journal();
            let lines: Vec<Value> = lines.into_iter().filter(|l| l["reason"] == reason).collect();
            (!lines.is_empty()).then_some(lines)
        });
        let line = lines.await.pop().unwrap();
        assert_eq!((&line["listener"], &line["sender"]), (&"webhook".into(), &"127.0.0.1".into()));
        line["message"].as_str().unwrap().to_owned()
    }

    async fn finish(self, events: f64) {
        let head = self.gateway.metric("siemgate_log_head_position", &[]).await;
        assert_eq!(head, Some(events), "only what was accepted is stored");
        self.gateway.finish().await;
    }
}

fn identity((certificate, key): &(String, String)) -> Identity {
    Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap()
}

#[tokio::test]
async fn a_certificate_is_shown_and_plain_listeners_stay() {
    let doors = Doors::open("").await;
    assert_eq!(doors.post(doors.client()).await.unwrap().status, 200);
    assert_eq!(doors.gateway.post("/webhook", "{\"n\":2}").await.status, 200);
    let tls12 = doors.client().tls_version_max(reqwest::tls::Version::TLS_1_2);
    assert_eq!(doors.post(tls12).await.unwrap().status, 200);
    let name = "siemgate_tls_certificate_expiry_timestamp_seconds";
    let until = doors.gateway.metric(name, &[("listener", "webhook")]).await.unwrap();
    let left = until - Timestamp::now().as_second() as f64;
    assert!((left - 90.0 * 86_400.0).abs() < 600.0, "{left}");
    doors.finish(3.0).await;
}

#[tokio::test]
async fn a_sender_that_does_not_trust_us_is_told_of() {
    let doors = Doors::open("").await;
    let stranger = Authority::new("another authority");
    let root = Certificate::from_pem(stranger.pem.as_bytes()).unwrap();
    let wrong_ca = Client::builder().no_proxy().tls_certs_only([root]);
    doors.post(wrong_ca).await.unwrap_err();
    let said = doors.said("distrust").await;
    assert!(said.contains("does not trust") && said.contains("`CN=our authority"), "{said}");
    assert!(said.contains("server.tls.cert_file") && said.contains("localhost"), "{said}");
    doors.finish(0.0).await;
}

#[tokio::test]
async fn a_wrong_name_is_told_with_the_right_ones() {
    let doors = Doors::open("").await;
    doors.show(&doors.ours.good("gateway.example"));
    assert_eq!(doors.gateway.cli(&["reload"]).await.code, Some(0));
    doors.post(doors.client()).await.unwrap_err();
    let said = doors.said("distrust").await;
    assert!(said.contains("a name in it: gateway.example"), "{said}");
    doors.finish(0.0).await;
}

#[tokio::test]
async fn an_expired_certificate_of_ours_is_warned_of_and_told() {
    let doors = Doors::open("").await;
    for (from, to, words) in [
        (-48 * HOUR, -24 * HOUR, "expired 24 hours ago"),
        (-HOUR, 5 * 24 * HOUR, "expires in 5 days"),
        (4 * HOUR, 24 * HOUR, "in 4 hours by this machine's clock"),
    ] {
        doors.show(&doors.ours.sign("localhost", from, to));
        let checked = doors.gateway.cli(&["check"]).await;
        assert_eq!(checked.code, Some(0), "an expired certificate keeps nothing from starting");
        assert!(checked.out.contains(words) && checked.out.contains("cert_file"), "{checked:?}");
        let reloaded = doors.gateway.cli(&["reload", "--json"]).await;
        assert!(reloaded.out.contains(words), "{reloaded:?}");
        assert!(doors.gateway.journal_text().contains(words), "at every reload: {words}");
    }
    doors.show(&doors.ours.sign("localhost", -48 * HOUR, -24 * HOUR));
    doors.gateway.cli(&["reload"]).await;
    doors.post(doors.client()).await.unwrap_err();
    let said = doors.said("distrust").await;
    assert!(said.contains("expired 24 hours ago") && said.contains("renew it"), "{said}");
    let mut doors = doors;
    doors.gateway.stop().await;
    let before = doors.gateway.journal().len();
    doors.gateway.launch().await;
    let lines = &doors.gateway.journal()[before..];
    assert!(lines.iter().any(|line| line.to_string().contains("expired 24 hours ago")));
    doors.finish(0.0).await;
}

#[tokio::test]
async fn a_self_signed_certificate_of_ours_is_trusted_by_whoever_has_it() {
    let doors = Doors::open("").await;
    let own = self_signed("localhost");
    doors.show(&own);
    assert_eq!(doors.gateway.cli(&["reload"]).await.code, Some(0));
    doors.post(doors.client()).await.unwrap_err();
    let said = doors.said("distrust").await;
    assert!(said.contains("self-signed: give the sender this certificate"), "{said}");
    doors.finish(0.0).await;
}

#[tokio::test]
async fn client_certificates_are_demanded_and_judged() {
    let stranger = Authority::new("another authority");
    let doors = Doors::open("client_ca_file = \"{{dir}}/ca.pem\"").await;
    let client = |of: &(String, String)| doors.client().identity(identity(of));
    let good = doors.ours.good("defender.example");
    assert_eq!(doors.post(client(&good)).await.unwrap().status, 200);

    doors.post(doors.client()).await.unwrap_err();
    let said = doors.said("no_certificate").await;
    assert!(said.contains("server.tls.client_ca_file"), "{said}");

    doors.post(client(&stranger.good("defender.example"))).await.unwrap_err();
    let said = doors.said("certificate").await;
    assert!(said.contains("comes from `CN=another authority`"), "{said}");
    assert!(said.contains("add that authority"), "{said}");

    doors
        .post(client(&doors.ours.sign("defender.example", -24 * HOUR, -4 * HOUR)))
        .await
        .unwrap_err();
    let said = doors.said("validity").await;
    assert!(
        said.contains("expired 4 hours ago") && said.contains("your clock is 4 hours fast"),
        "{said}"
    );
    doors.finish(1.0).await;
}

#[tokio::test]
async fn other_mistakes_of_client_certificates_are_told_apart() {
    let doors = Doors::open("client_ca_file = \"{{dir}}/ca.pem\"").await;
    let client = |of: &(String, String)| doors.client().identity(identity(of));
    doors.post(client(&self_signed("defender.example"))).await.unwrap_err();
    let said = doors.said("certificate").await;
    assert!(
        said.contains("`CN=defender.example itself`") && said.contains("is self-signed"),
        "{said}"
    );

    doors
        .post(client(&doors.ours.sign("defender.example", 4 * HOUR, 24 * HOUR)))
        .await
        .unwrap_err();
    let said = doors.said("validity").await;
    assert!(said.contains("your clock is 4 hours slow"), "{said}");
    doors.finish(0.0).await;

    let doors = Doors::open("client_ca_file = \"{{dir}}/ca.pem\"").await;
    let key = KeyPair::generate().unwrap();
    let mut params = params("defender.example", -HOUR, HOUR);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let pem = params.signed_by(&key, &doors.ours.issuer).unwrap().pem();
    let client = doors.client().identity(identity(&(pem, key.serialize_pem())));
    doors.post(client).await.unwrap_err();
    let said = doors.said("certificate").await;
    assert!(said.contains("not for clients"), "{said}");
    // So long ago that no clock is to blame.
    let old = doors.ours.sign("defender.example", -900 * HOUR, -30 * 24 * HOUR);
    doors.post(doors.client().identity(identity(&old))).await.unwrap_err();
    let said = doors.said("validity").await;
    assert!(said.contains("expired 30 days ago") && !said.contains("your clock is"), "{said}");
    doors.finish(0.0).await;
}

/// A ClientHello of TLS 1.1, which no client library here still sends.
fn hello_of_tls_1_1() -> Vec<u8> {
    let ciphers = [0x00, 0x2f, 0x00, 0x35, 0xc0, 0x13, 0xc0, 0x14];
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.push(0);
    hello.extend([0, ciphers.len() as u8]);
    hello.extend(ciphers);
    hello.extend([1, 0]);
    let groups: &[u8] = &[0, 10, 0, 4, 0, 2, 0, 23];
    let points: &[u8] = &[0, 11, 0, 2, 1, 0];
    hello.extend([0, (groups.len() + points.len()) as u8]);
    hello.extend([groups, points].concat());
    let body = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
    [&[22, 3, 1, 0, body.len() as u8][..], &body].concat()
}

#[tokio::test]
async fn an_old_protocol_and_no_protocol_are_told() {
    let doors = Doors::open("").await;
    let mut old = TcpStream::connect(("127.0.0.1", doors.port())).await.unwrap();
    old.write_all(&hello_of_tls_1_1()).await.unwrap();
    let mut alert = Vec::new();
    old.read_to_end(&mut alert).await.unwrap();
    // A fatal alert: handshake_failure or protocol_version.
    assert!((alert[0], alert[5]) == (21, 2) && [40, 70].contains(&alert[6]), "{alert:?}");
    let said = doors.said("protocol").await;
    assert!(said.contains("TLS 1.1 or older; 1.2 is needed"), "{said}");

    let plain = Client::new().post(format!("http://127.0.0.1:{}/webhook", doors.port()));
    let answer = told(plain.body("{}")).await;
    assert!(answer.status == 400 && answer.text.contains("https://"), "{answer:?}");
    assert!(doors.said("plain").await.contains("https://"));
    // A knock is not worth a line.
    let knock = TcpStream::connect(("127.0.0.1", doors.port())).await.unwrap();
    drop(knock);
    assert_eq!(doors.post(doors.client()).await.unwrap().status, 200);
    let told_of = |line: &&Value| line["message"].as_str().unwrap().starts_with("no TLS");
    assert_eq!(doors.gateway.journal().iter().filter(told_of).count(), 2);
    doors.finish(1.0).await;
}

#[tokio::test]
async fn new_files_are_shown_after_a_reload_and_broken_ones_change_nothing() {
    let doors = Doors::open("").await;
    let next = Authority::new("the next authority");
    let trusting = |authority: &Authority| {
        let root = Certificate::from_pem(authority.pem.as_bytes()).unwrap();
        Client::builder().no_proxy().tls_certs_only([root])
    };
    doors.show(&next.good("localhost"));
    assert!(doors.post(trusting(&next)).await.is_err(), "not before it is asked for");
    assert_eq!(doors.gateway.cli(&["reload"]).await.code, Some(0));
    assert_eq!(doors.post(trusting(&next)).await.unwrap().status, 200);
    assert!(doors.post(trusting(&doors.ours)).await.is_err());

    let (certificate, _) = next.good("localhost");
    let (_, other_key) = next.good("localhost");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (cert, key, problem) in [
        (certificate.as_str(), other_key.as_str(), "is not the key of"),
        ("nonsense", other_key.as_str(), "holds no certificate"),
        (certificate.as_str(), "nonsense", "holds no private key"),
        (certificate.as_str(), encrypted, "is encrypted"),
    ] {
        doors.show(&(cert.to_owned(), key.to_owned()));
        let refused = doors.gateway.cli(&["check"]).await;
        assert_eq!(refused.code, Some(78), "{refused:?}");
        assert!(
            refused.err.contains(problem) && refused.err.contains("20-tls.toml:"),
            "{refused:?}"
        );
        let reload = doors.gateway.steer("/-/reload").await;
        assert!(reload.status == 422 && reload.text.contains(problem), "{reload:?}");
        assert_eq!(doors.post(trusting(&next)).await.unwrap().status, 200, "the old one holds");
    }
    doors.finish(5.0).await;
}

#[tokio::test]
async fn a_source_may_want_a_certificate_of_its_own() {
    let doors =
        Doors::open("client_ca_file = \"{{dir}}/ca.pem\"\nclient_cert = \"optional\"").await;
    doors.gateway.configure(
        "30-auth.toml",
        "[sources.any]\nauth = [{ client_cert = [\"Defender.example\", \"other.example\"] }, { bearer = { file = \"{{dir}}/token\" } }]\n",
    );
    std::fs::write(doors.gateway.path("token"), "open-sesame").unwrap();
    let reloaded = doors.gateway.cli(&["reload"]).await;
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    let client = |name: &str| doors.client().identity(identity(&doors.ours.good(name)));
    assert_eq!(doors.post(client("defender.example")).await.unwrap().status, 200);
    let other = doors.post(client("scanner.example")).await.unwrap();
    assert!(other.status == 401 && other.text.contains("is for scanner.example"), "{other:?}");
    let none = doors.post(doors.client()).await.unwrap();
    assert!(none.status == 401 && none.text.contains("no client certificate"), "{none:?}");
    let refused = [("source", "any"), ("reason", "certificate")];
    assert_eq!(doors.gateway.metric("siemgate_ingress_refused_total", &refused).await, Some(2.0));
    // On the plain listener there are no certificates, but there may be a token.
    let plain = doors.gateway.request("/webhook").bearer_auth("open-sesame").body("{}");
    told(plain).await.ids();
    assert_eq!(doors.gateway.post("/webhook", "{}").await.status, 401);
    doors.finish(2.0).await;
}

#[tokio::test]
async fn send_and_the_commands_speak_tls_to_their_own_gateway() {
    let ours = Authority::new("our authority");
    // Neither the name nor the date matters to those who have the file.
    let shown = ours.sign("gateway.example", -48 * HOUR, -HOUR);
    let gateway = Gateway::prepared(SOURCES);
    std::fs::write(gateway.path("cert.pem"), &shown.0).unwrap();
    std::fs::write(gateway.path("key.pem"), &shown.1).unwrap();
    let files = "cert_file = \"{{dir}}/cert.pem\"\nkey_file = \"{{dir}}/key.pem\"\n";
    gateway.configure("20-tls.toml", &format!("[server.tls]\n{files}[server.admin_tls]\n{files}"));
    let mut gateway = gateway;
    gateway.launch().await;
    assert!(gateway.admin.starts_with("https://") && gateway.webhook.is_empty());
    let sent = gateway.cli(&["send", "--source", "any", "--wait", "30s"]).await;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let listed = gateway.cli(&["dead", "list"]).await;
    assert!(listed.code == Some(0) && listed.out.contains("0 open"), "{listed:?}");
    let name = "siemgate_tls_certificate_expiry_timestamp_seconds";
    assert!(gateway.metric(name, &[("listener", "admin")]).await.is_some());
    // Another gateway at this address, or somebody in between, is not ours.
    let other = ours.good("gateway.example");
    std::fs::write(gateway.path("cert.pem"), &other.0).unwrap();
    std::fs::write(gateway.path("key.pem"), &other.1).unwrap();
    let sent = gateway.cli(&["send", "--source", "any"]).await;
    assert_eq!(sent.code, Some(1), "{sent:?}");
    gateway.finish().await;
}
