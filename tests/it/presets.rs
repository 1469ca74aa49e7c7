//! Presets: the shipped ones are sound, the user's work like them, and what leaves is known to the byte.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use siemgate::core::event::{Draft, Event, EventId, Position};
use siemgate::core::route::Shaped;
use siemgate::core::sink::Piece;
use siemgate::sinks::{Built, Catalogue, Entry};

use super::gateway::{Gateway, fixture, until};
use super::peer::{Answer, Peer};
use super::receiver::Receiver;
use super::sinks::{built, folder, now, told};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The fixtures that every kind writes, in this order, as one batch where it takes several.
const EVENTS: [&str; 3] =
    ["superna-critical-locked-out", "superna-access-restored", "superna-odd-types"];

/// An event whose id and times are always the same, read by the decoder for Superna.
fn event(number: u8, name: &str) -> Shaped {
    let body = bytes::Bytes::from(fixture(&format!("{name}.json")));
    let mut id = *b"\x01\x9b\x21\x00\x00\x00\x70\x00\x80\x00\x00\x00\x00\x00\x00\x00";
    id[15] = number;
    let draft = Draft::new(EventId::from_bytes(id), now(), "superna".into(), body.clone());
    let section = siemgate::core::config::Section::new("sources.superna", serde_json::Map::new());
    let source = (siemgate::sources::kind("superna").unwrap().build)(&section).unwrap();
    draft.decoded_by(|| source.decode(&body));
    Shaped::unshaped(Arc::new(Event { position: Position(number.into()), draft }))
}

/// What `built` sends for the fixtures: every request, without credentials.
fn written(kind: &Entry, built: &Built) -> String {
    let encoded = |(number, name): (usize, &&str)| {
        let event = event(number as u8, name);
        let bytes = built.sink.encode(&event, built.limits.event_bytes).unwrap();
        Piece::of(&event.event, bytes)
    };
    let pieces: Vec<Piece> = EVENTS.iter().enumerate().map(encoded).collect();
    let mut text = format!("# {}\n", kind.name());
    for batch in pieces.chunks(built.limits.batch_events) {
        match built.sink.preview(batch) {
            Some(preview) => {
                let _ = writeln!(text, "\n{} {}", preview.method, preview.url);
                for (name, value) in preview.headers {
                    let _ = writeln!(text, "{name}: {value}");
                }
                let _ = writeln!(text, "\n{}", shown(&preview.body));
            }
            None => {
                for piece in batch {
                    let _ = writeln!(text, "\n{}", String::from_utf8_lossy(&piece.bytes));
                }
            }
        }
    }
    text
}

/// Bytes that are no text as a table of them.
fn shown(body: &[u8]) -> String {
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\0');
    match std::str::from_utf8(body) {
        Ok(text) if !text.contains(control) => text.to_owned(),
        _ => {
            let hex =
                |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let plain = |byte: &u8| {
                if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' }
            };
            let lines = body.chunks(32).map(|line| {
                format!("{:<64}  {}", hex(line), line.iter().map(plain).collect::<String>())
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

/// `UPDATE_GOLDEN=1` writes them anew; read the difference before you commit it.
#[test]
fn every_kind_writes_what_its_golden_file_says() {
    let update = siemgate_update();
    let mut wrong = Vec::new();
    for kind in Catalogue::default().all().map_err(told).unwrap() {
        let dir = folder();
        let toml = kind.sample_with("http://peer.example:9", &dir.path().display().to_string());
        // Compression would hide what is written.
        let plain = toml.contains("type = \"splunk")
            || kind.schema().to_value()["properties"]["gzip"].is_object();
        let toml =
            if plain && kind.name() != "http" { format!("{toml}gzip = false\n") } else { toml };
        // Else it is this machine's name.
        let toml = match kind.schema().to_value()["properties"]["hostname"].is_object() {
            true => format!("{toml}hostname = \"gate\"\n"),
            false => toml,
        };
        let text = written(&kind, &built(&toml));
        let text = text.replace(&dir.path().display().to_string(), "{{dir}}");
        let path = root().join("tests/golden").join(format!("{}.txt", kind.name()));
        if update {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "not what the golden files say (UPDATE_GOLDEN=1):\n{}",
        wrong.join("\n")
    );
}

fn siemgate_update() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

const OWN: &str = r#"
name = "acme"
about = "ACME alerts"
class = "siem"
[fields]
url = { type = "address", about = "The address of the collector." }
token = { type = "secret", about = "The token that it shows." }
team = { optional = true, about = "The team that gets the alerts." }
[request]
url = "{{url}}/v1/alerts"
auth = { bearer = "{{token}}" }
[body]
frame = "wrapped"
wrap = { team = "{{team?}}", alerts = "{{@events}}" }
event = { id = "{{@id}}", level = "{{finding.severity.cef}}", user = "{{.userName?}}", summary = "{{finding.severity}}: {{finding.user?:4}}", raw = "{{@body}}" }
[reply]
ok = { json = { ok = true } }
sample = { body = '{"ok":true}' }
"#;

/// The page that people copy from.
#[tokio::test]
async fn the_documented_example_is_accepted_as_it_stands() {
    let page = std::fs::read_to_string(root().join("docs/presets.md")).unwrap();
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).collect();
    let [preset, section, carried] = &blocks[..] else { panic!("{} blocks", blocks.len()) };
    let inner = |block: &str| block.split("```").next().unwrap().to_owned();
    let gateway = Gateway::prepared(
        "[sources.superna]\ntype = \"superna\"\n[routes.all]\nsinks = [\"acme\", \"siem\"]\n",
    );
    std::fs::create_dir(gateway.path("config.d/presets")).unwrap();
    gateway.configure("presets/acme.toml", &inner(preset));
    std::fs::write(gateway.path("key"), "k\n").unwrap();
    let section = inner(section).replace("/etc/siemgate/secrets/acme", "{{dir}}/key");
    gateway.configure("50-acme.toml", &section);
    gateway.configure("presets/acme_siem.toml", &inner(carried));
    let siem = "[sinks.siem]\ntype = \"acme_siem\"\naddress = \"tcp://localhost:514\"\n";
    gateway.configure("51-siem.toml", siem);
    let checked = gateway.cli(&["check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for sink in ["sink acme (acme)", "sink siem (acme_siem)"] {
        assert!(checked.out.contains(sink), "{checked:?}");
    }
}

const USING: &str = r#"
[sources.superna]
type = "superna"
[routes.all]
sinks = ["acme"]
[sinks.acme]
type = "acme"
url = "{{peer}}"
token = { env = "KEY" }
team = "blue"
"#;

#[tokio::test]
async fn a_users_preset_is_loaded_checked_and_reloaded_like_a_shipped_one() {
    let peer = Peer::start().await;
    peer.always(Answer::ok(r#"{"ok":true}"#));
    let mut gateway = Gateway::prepared(&USING.replace("{{peer}}", &peer.url()));
    std::fs::create_dir(gateway.path("config.d/presets")).unwrap();
    gateway.configure("presets/acme.toml", OWN);
    gateway.set_env("KEY", "sesame");
    gateway.launch().await;
    gateway.post("/webhook?wait=30s", fixture("superna-critical-locked-out.json")).await.ids();
    let [request] = &peer.requests()[..] else { panic!("not one request") };
    assert_eq!(
        (request.path.as_str(), request.header("authorization")),
        ("/v1/alerts", Some("Bearer sesame"))
    );
    let sent = request.json();
    assert_eq!(sent["team"], "blue");
    let alert = &sent["alerts"][0];
    assert_eq!((&alert["level"], &alert["summary"]), (&10.into(), &"critical: AD01".into()));
    assert_eq!((&alert["user"], &alert["raw"]["numFiles"]), (&"AD01\\demouser".into(), &3.into()));
    // Another form takes effect without a restart.
    gateway.configure("presets/acme.toml", &OWN.replace("raw = \"{{@body}}\"", "more = 1"));
    peer.forget();
    until("the changed preset is in force", async || {
        gateway
            .post("/webhook?wait=30s", format!("{{\"n\":\"{:?}\"}}", std::time::Instant::now()))
            .await;
        peer.requests()
            .last()
            .is_some_and(|last| last.json()["alerts"][0]["more"] == 1)
            .then_some(())
    })
    .await;
    // A broken one changes nothing, and says where.
    gateway.configure("presets/acme.toml", &OWN.replace("{{finding.user?:4}}", "{{finding.usre}}"));
    let checked = gateway.cli(&["check"]).await;
    assert_eq!(checked.code, Some(78), "{checked:?}");
    assert!(
        checked.err.contains("acme.toml")
            && checked.err.contains("`{{finding.usre}}` names nothing"),
        "{checked:?}"
    );
    gateway.configure("presets/acme.toml", OWN);
    gateway.finish().await;
}

#[tokio::test]
async fn mistakes_in_presets_are_told_with_file_and_help() {
    let gateway = Gateway::prepared(&USING.replace("{{peer}}", "http://127.0.0.1:9"));
    std::fs::create_dir(gateway.path("config.d/presets")).unwrap();
    for (from, to, says) in [
        (
            "name = \"acme\"",
            "name = \"splunk_hec\"",
            "there is a kind of sink `splunk_hec` already",
        ),
        ("frame = \"wrapped\"", "frame = \"wraped\"", "unknown variant `wraped`"),
        ("wrap = {", "warp = {", "unknown field `warp`"),
        ("\"{{@events}}\"", "\"events\"", "must stand in it once"),
        ("{{.userName?}}", "{{userName?}}", "`{{userName?}}` names nothing"),
        ("{{finding.severity.cef}}", "{{finding.severity.cfe}}", "names nothing"),
        ("{{token}}", "{{tokn}}", "request.auth: `{{tokn}}` names nothing"),
        ("{{url}}/v1", "{{team?}}/v1", "request.url"),
        (
            "team = { optional = true, about",
            "proxy = { optional = true, about",
            "every sink has a key of this name",
        ),
        ("class = \"siem\"", "class = \"seim\"", "unknown variant `seim`"),
    ] {
        assert!(OWN.contains(from), "{from}");
        gateway.configure("presets/acme.toml", &OWN.replace(from, to));
        let checked = gateway.cli(&["check"]).await;
        assert_eq!(checked.code, Some(78), "{to}: {checked:?}");
        assert!(
            checked.err.contains("acme.toml") && checked.err.contains(says),
            "{says}: {}",
            checked.err
        );
    }
}

const CARRIED: &str = r#"
name = "acme_siem"
about = "ACME SIEM: LEEF by syslog"
class = "siem"
[carrier]
kind = "syslog"
address = "tls://acme.example:6514"
[carrier.defaults]
framing = "lf"
format = "leef"
header = "rfc3164"
max_bytes = "1000B"
"#;

/// The product's defaults hold unless the user sets another value, over whatever way they go.
#[tokio::test]
async fn a_product_reached_by_syslog_is_a_file_of_defaults() {
    let (tcp, udp) = (Receiver::tcp().await, Receiver::udp().await);
    let section = |name: &str, to: &Receiver, more: &str| {
        let url = to.url();
        format!(
            "[sinks.{name}]\ntype = \"acme_siem\"\naddress = \"{url}\"\nhostname = \"gate\"\n{more}\n"
        )
    };
    let mut gateway = Gateway::prepared(&format!(
        "[sources.superna]\ntype = \"superna\"\n[routes.all]\nsinks = [\"a\", \"b\"]\n{}{}",
        section("a", &tcp, "facility = \"audit\""),
        section("b", &udp, "format = \"raw\"\ntag = \"my.app.superna\""),
    ));
    std::fs::create_dir(gateway.path("config.d/presets")).unwrap();
    gateway.configure("presets/acme_siem.toml", CARRIED);
    gateway.launch().await;
    gateway.post("/webhook?wait=30s", fixture("superna-critical-locked-out.json")).await.ids();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let line = text(&tcp.wait_for(1).await[0]);
    assert!(line.starts_with("<106>") && line.contains(" gate siemgate: LEEF:2.0|"), "{line}");
    assert!(line.len() <= 1_000 && text(&tcp.came()[0]).ends_with('\n'), "{line}");
    let datagram = text(&udp.wait_for(1).await[0]);
    assert!(datagram.contains(" gate my.app.superna: {\"id\""), "{datagram}");
    for (from, to, says) in [
        ("name = \"acme_siem\"", "name = \"acme siem\"", "cannot be a name"),
        ("kind = \"syslog\"", "kind = \"sislog\"", "is none of syslog, tcp, udp"),
        ("tls://acme", "https://acme", "begins with another word"),
        ("framing = \"lf\"", "framing = \"crlf\"", "`crlf` is not one of: octet, lf"),
        ("format = ", "formt = ", "`formt`"),
        (
            "[carrier.defaults]",
            "[request]\nurl = \"x\"\n[carrier.defaults]",
            "unknown field `request`",
        ),
    ] {
        gateway.configure("presets/acme_siem.toml", &CARRIED.replace(from, to));
        let checked = gateway.cli(&["check"]).await;
        let good = checked.err.contains("acme_siem.toml") && checked.err.contains(says);
        assert!(good && checked.code == Some(78), "{to}: {checked:?}");
    }
    gateway.configure("presets/acme_siem.toml", CARRIED);
    gateway.finish().await;
}
