//! E-mail: against a server that says what it is told, and against a real one with TLS and a login.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use siemgate::core::Timestamp;
use siemgate::core::sink::{Cause, Outcome, Piece, Probe};
use siemgate::sinks::Built;

use crate::certificates::{Authority, Leaf};
use crate::gateway::{Gateway, fixture};
use crate::mailbox::Mailbox;
use crate::people::event_at;
use crate::products::{Process, python};
use crate::proofs::proved;
use crate::sinks::{KEY, build, built, delivered, encode, failed, folder, now, told};

const CLEAR: &str = "starttls = false\n";

fn config(address: &str, more: &str) -> String {
    format!(
        "[sinks.mail]\ntype = \"smtp\"\naddress = \"{address}\"\nfrom = \"gate@example.com\"\nto = [\"a@example.com\", \"b@example.com\"]\n{more}"
    )
}

/// A script that answers the command that begins with `at`.
fn at(at: &'static str, answer: &'static str) -> impl Fn(&str) -> Option<String> {
    move |command| {
        let hit = if at.is_empty() { command.is_empty() } else { command.starts_with(at) };
        hit.then(|| answer.to_owned())
    }
}

async fn send(sink: &Built, piece: &Piece, now: Timestamp) -> Outcome {
    sink.sink.send(std::slice::from_ref(piece), now).await
}

#[tokio::test]
async fn what_the_server_says_chooses_the_cause() {
    let mailbox = Mailbox::start().await;
    let sink = built(&config(&mailbox.url(), CLEAR));
    let piece = encode(&sink, "{}").unwrap();
    for (step, answer, cause, words) in [
        ("", "554 no mail from you", Cause::Setup, "check sinks.mail.address"),
        ("", "421 too many connections", Cause::Down, "closes the connection"),
        ("", "SSH-2.0-OpenSSH_9.2", Cause::Setup, "does not speak as a mail server"),
        ("EHLO", "502 what?", Cause::Setup, "check sinks.mail.address"),
        ("EHLO", "250-SIZE 100\r\n250 SIZE 100", Cause::TooLarge, "the server takes 100"),
        ("MAIL", "530 log in first", Cause::Setup, "check sinks.mail.user"),
        ("MAIL", "553 not your address", Cause::Setup, "check sinks.mail.from"),
        ("MAIL", "552 5.3.4 too big", Cause::TooLarge, "too large"),
        ("MAIL", "451 greylisted", Cause::Busy, "later"),
        ("MAIL", "452 no room", Cause::Down, "in trouble"),
        ("RCPT", "550 no such user", Cause::Setup, "check sinks.mail.to"),
        ("RCPT", "450 greylisted", Cause::Busy, "later"),
        ("RCPT", "552 mailbox full", Cause::Down, "mailbox is full"),
        ("RCPT", "530 log in first", Cause::Setup, "check sinks.mail.user"),
        ("RCPT", "", Cause::Down, "hung up"),
        ("DATA", "554 no", Cause::Setup, "check sinks.mail.to"),
        ("DATA", "250 fine", Cause::Setup, "something else than it should"),
        (".", "552 5.3.4 too big", Cause::TooLarge, "too large"),
        (".", "554 spam", Cause::Refused, "refuses the mail"),
        (".", "451 later", Cause::Busy, "later"),
        (".", "", Cause::Down, "hung up"),
    ] {
        mailbox.answer(at(step, answer));
        let fault = failed(send(&sink, &piece, now()).await, cause);
        assert!(
            fault.note.contains(words) && fault.note.contains(&mailbox.url()),
            "{step} {answer}: {fault:?}"
        );
        assert_eq!(fault.retry_after.is_some(), cause == Cause::Busy, "{fault:?}");
    }
    assert_eq!(mailbox.mails().len(), 0);
    mailbox.answer(|_| None);
    delivered(send(&sink, &piece, now()).await);
    // The same event is the same mail.
    delivered(send(&sink, &piece, now()).await);
    assert_eq!(mailbox.mails(), [piece.bytes.clone(), piece.bytes.clone()]);
    mailbox.answer(|command| (command == "QUIT").then(String::new));
    delivered(send(&sink, &piece, now()).await);
    let said = mailbox.said();
    let size = format!("MAIL FROM:<gate@example.com> SIZE={}", piece.bytes.len());
    assert_eq!(
        said[said.len() - 6..],
        [
            "EHLO [127.0.0.1]",
            &size,
            "RCPT TO:<a@example.com>",
            "RCPT TO:<b@example.com>",
            "DATA",
            "QUIT"
        ]
    );
}

/// Some get a mail, others not.
#[tokio::test]
async fn one_recipient_neither_keeps_the_mail_from_others_nor_is_forgotten_at_once() {
    let mailbox = Mailbox::start().await;
    let sink = built(&config(&mailbox.url(), CLEAR));
    let (first, second) = (encode(&sink, "{}").unwrap(), encode(&sink, "{}").unwrap());
    // One who does not exist is told, and that is all.
    mailbox.answer(|command| command.contains("<b@").then(|| "550 no such user".to_owned()));
    let reply = delivered(send(&sink, &first, now()).await);
    assert_eq!(reply.excerpt, "kept as 1; not to b@example.com: 550 no such user");
    assert_eq!(sink.sink.probe(now()).await, Ok(Probe::ReachableOnly));
    // One who is put off is waited for, and the other does not get it twice.
    mailbox.answer(|command| command.contains("<b@").then(|| "452 mailbox full".to_owned()));
    let fault = failed(send(&sink, &second, now()).await, Cause::Down);
    assert!(fault.note.contains("452"), "{fault:?}");
    mailbox.forget();
    failed(send(&sink, &second, now()).await, Cause::Down);
    assert!(!mailbox.said().iter().any(|said| said.contains("<a@")), "{:?}", mailbox.said());
    assert_eq!(mailbox.mails().len(), 0);
    // Not for ever: the alerts behind it are late.
    let later = now() + Duration::from_secs(61);
    let reply = delivered(send(&sink, &second, later).await);
    assert!(reply.excerpt.contains("not to b@example.com: 452"), "{reply:?}");
    let third = encode(&sink, "{}").unwrap();
    let reply = delivered(send(&sink, &third, later).await);
    assert!(reply.excerpt.starts_with("kept as 1; not to b@example.com: 452"), "{reply:?}");
    mailbox.answer(|_| None);
    assert_eq!(delivered(send(&sink, &third, later).await).excerpt, "kept as 1");
    assert_eq!(sink.sink.probe(now()).await, Ok(Probe::Accepted));
    mailbox.answer(at("RCPT", "550 no such user"));
    assert!(sink.sink.probe(now()).await.unwrap_err().note.contains("check sinks.mail.to"));
}

#[tokio::test]
async fn nothing_is_said_in_clear_where_tls_is_wanted() {
    let (mailbox, dir) = (Mailbox::start().await, folder());
    let login = format!("user = \"u\"\npassword = {{ file = \"{}/key\" }}\n", dir.path().display());
    let sink = built(&config(&mailbox.url(), &login));
    let piece = encode(&sink, "{}").unwrap();
    // Taken away on the way, refused, or followed by somebody else's words.
    for (answer, cause, words) in [
        (None, Cause::Setup, "offers no STARTTLS"),
        (Some("454 no TLS now"), Cause::Down, "in trouble"),
        (Some("220 go on\r\n250-mail.example\r\n250 AUTH PLAIN"), Cause::Setup, "does not speak"),
        (Some("220 go on"), Cause::Down, "the connection broke"),
    ] {
        mailbox.forget();
        mailbox.answer(move |command| match (command.split(' ').next(), answer) {
            (Some("EHLO"), Some(_)) => Some("250-mail.example\r\n250 STARTTLS".to_owned()),
            (Some("STARTTLS"), Some(answer)) => Some(answer.to_owned()),
            _ => None,
        });
        for fault in [
            failed(send(&sink, &piece, now()).await, cause),
            sink.sink.probe(now()).await.unwrap_err(),
        ] {
            assert!(fault.note.contains(words) && fault.cause == cause, "{fault:?}");
        }
        let clear = |said: &String| {
            said.starts_with("EHLO ")
                || said == "STARTTLS"
                || said.bytes().any(|b| !(32..127).contains(&b))
        };
        assert!(mailbox.said().iter().all(clear), "{:?}", mailbox.said());
    }
    for (address, more, words) in [
        ("smtp://h", format!("{CLEAR}{login}"), "would send the password in clear"),
        ("smtps://h", CLEAR.to_owned(), "starttls: has no meaning for smtps://"),
        ("smtp://h", format!("{CLEAR}ca_only = true\n"), "has no meaning without TLS"),
        ("smtp://h", "user = \"u\"\n".to_owned(), "password: belongs to `user`"),
        ("http://h", String::new(), "begins with another word"),
        ("smtp://h", "hello = \"a b\"\n".to_owned(), "hello: must be a name"),
        ("smtp://h", "subject_prefix = \"a\\nBcc: x@y\"\n".to_owned(), "subject_prefix: must have"),
    ] {
        let problems = build(&config(address, &more)).err().map(told).unwrap_or_default();
        assert!(problems.contains(words), "{words} in {problems}");
    }
    for to in ["[]", "\"a@b\\r\\nRCPT TO:<c@d>\"", "\"A <a@b>\"", "\"a\""] {
        let toml = config("smtp://h", CLEAR).replace("[\"a@example.com\", \"b@example.com\"]", to);
        let problems = build(&toml).err().map(told).unwrap_or_default();
        assert!(problems.contains("sinks.mail.to: "), "{to}: {problems}");
    }
}

/// A real mail server, and what it prints.
struct Real {
    port: u16,
    lines: Receiver<String>,
    _running: Process,
}

impl Real {
    fn start(mode: &str, leaf: &Leaf, dir: &Path) -> Option<Self> {
        let python: PathBuf = python("aiosmtpd")?;
        let (cert, key) = leaf.write(dir, mode);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail/server.py");
        let mut child: Child = Command::new(python)
            .arg(script)
            .arg(mode)
            .args([&cert, &key])
            .args(["gate", KEY])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut real = Self { port: 0, lines, _running: Process(child) };
        real.port = real.line().parse().unwrap();
        Some(real)
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(20)).expect("the server prints a line")
    }

    /// The next mail, as the server's library reads it.
    fn mail(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }
}

#[tokio::test]
async fn a_real_server_takes_mails_over_starttls_and_over_tls() {
    let (authority, dir) = (Authority::new("ours"), folder());
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    for (mode, scheme) in [("starttls", "smtp"), ("implicit", "smtps")] {
        let Some(real) = Real::start(mode, &authority.leaf("localhost"), dir.path()) else {
            return;
        };
        let address = format!("{scheme}://localhost:{}", real.port);
        let login = |key: &str| {
            let key = dir.path().join(key);
            format!("ca_file = {ca:?}\nuser = \"gate\"\npassword = {{ file = {key:?} }}\n")
        };
        let to = |to: &str, more: &str| {
            config(&address, &login("key")).replace("b@example.com", to) + more
        };
        let sink = built(&to(
            "gone@example.com",
            "show = [\"user\", \"event\"]\nsubject_prefix = \"[Ü] \"\n",
        ));
        assert_eq!(sink.sink.probe(now()).await, Ok(Probe::ReachableOnly));
        let event = event_at(
            &json!({
                "id": "inc-77", "severity": "CRITICAL", "state": "LOCKED_OUT", "nes": ["a\r\nBcc: x@evil.example"],
                "userName": "CORP\\jdoe <https://evil.example>", "files": ["/ifs/x"], "link": "https://dse.example/77",
                "more": ".\r\n.\r\nQUIT\r\n",
            }),
            now(),
        );
        let bytes = sink.sink.encode(&event, sink.limits.event_bytes).unwrap();
        let piece = Piece::of(&event.event, bytes);
        let reply = delivered(send(&sink, &piece, now()).await);
        assert_eq!(reply.excerpt, "kept; not to gone@example.com: 550 5.1.1 no such user");
        let mail = real.mail();
        assert_eq!(
            (&mail["from"], &mail["to"]),
            (&json!("gate@example.com"), &json!(["a@example.com"]))
        );
        assert_eq!((&mail["tls"], &mail["defects"]), (&json!(true), &json!([])), "{mail}");
        let headers = &mail["headers"];
        for (name, value) in [
            ("from", "siemgate <gate@example.com>"),
            ("to", "a@example.com, gone@example.com"),
            (
                "subject",
                "[Ü] Critical: ransomware event, locked out on a  Bcc: x@\u{2060}evil.example, 1 file",
            ),
            ("message-id", &format!("<{}@example.com>", event.event.id)),
            ("references", "<inc-77@incident.example.com>"),
            ("in-reply-to", "<inc-77@incident.example.com>"),
            ("date", "Sat, 31 Jan 2026 12:00:00 +0000"),
            ("auto-submitted", "auto-generated"),
            ("importance", "high"),
        ] {
            assert_eq!(headers[name], value, "{headers}");
        }
        assert_eq!(headers["bcc"], Value::Null);
        let text = mail["text"].as_str().unwrap().replace("\r\n", "\n");
        for line in [
            "User: CORP\\jdoe <https:\u{2060}//evil.example>\n",
            "Page: https://dse.example/77\n",
            "\"more\":\".\\r\\n.\\r\\nQUIT\\r\\n\"",
        ] {
            assert!(text.contains(line), "{line:?} in {text:?}");
        }
        assert!(!text.contains("Files: "), "{text}");

        // One whose mailbox is full for a moment gets it too, and nobody twice.
        let sink = built(&to("full@example.com", ""));
        failed(send(&sink, &piece, now()).await, Cause::Down);
        delivered(send(&sink, &piece, now()).await);
        assert_eq!(real.mail()["to"], json!(["a@example.com"]));
        assert_eq!(real.mail()["to"], json!(["full@example.com"]));

        std::fs::write(dir.path().join("wrong"), "zz-wrong-zz\n").unwrap();
        let wrong = built(&config(&address, &login("wrong")));
        for fault in [
            failed(send(&wrong, &piece, now()).await, Cause::Setup),
            wrong.sink.probe(now()).await.unwrap_err(),
        ] {
            assert!(
                fault.note.contains(
                    "535: the server does not accept the login; check sinks.mail.password"
                ),
                "{fault:?}"
            );
            assert!(!format!("{fault:?}").contains("zz-wrong"), "{fault:?}");
        }
        let nobody = built(&config(&address, &format!("ca_file = {ca:?}\n")));
        let fault = failed(send(&nobody, &piece, now()).await, Cause::Setup);
        assert!(fault.note.contains("check sinks.mail.user"), "{fault:?}");
    }
}

#[tokio::test]
async fn an_alert_goes_through_the_gateway_into_a_real_mailbox() {
    let (authority, mut gateway) = (Authority::new("ours"), Gateway::prepared(""));
    let leaf = authority.leaf("localhost");
    let Some(real) = Real::start("starttls", &leaf, &gateway.path("")) else { return };
    std::fs::write(gateway.path("ca.pem"), &authority.pem).unwrap();
    crate::sinks::write_secrets(&gateway.path(""));
    let more = format!(
        "ca_file = {:?}\nuser = \"gate\"\npassword = {{ file = {:?} }}\n",
        gateway.path("ca.pem"),
        gateway.path("key")
    );
    let sources = "[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n[routes.all]\nsinks = [\"mail\"]\n";
    let sink = config(&format!("smtp://localhost:{}", real.port), &more);
    gateway.configure("20-mail.toml", &[sources, &sink].concat());
    gateway.launch().await;
    let mut threads = Vec::new();
    for name in ["superna-critical-locked-out", "superna-access-restored"] {
        let posted = gateway.post("/webhook?wait=30s", fixture(&format!("{name}.json"))).await;
        assert_eq!(posted.json()["settled"], true, "{posted:?}");
        let mail = real.mail();
        let id = &posted.ids()[0];
        assert_eq!(mail["headers"]["message-id"], format!("<{id}@example.com>"));
        assert!(!mail["text"].as_str().unwrap().contains("demouser"), "names only where asked for");
        threads.push(mail["headers"]["references"].clone());
    }
    assert!(threads[0].is_string() && threads[0] == threads[1], "{threads:?}");
    gateway.finish().await;
    proved("smtp", "aiosmtpd");
}
