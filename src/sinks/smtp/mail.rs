//! One event as one mail (RFC 5322), without a library: every header is ours.
//!
//! Guarantees: lines end with CRLF and are short; a header holds printable ASCII only, so no name can
//! begin another one; the text is UTF-8 as base64, in which nothing is a dot or a header, and no name in
//! it becomes a link; the same event is the same mail however often it is sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::super::preset::Markup;
use super::super::show::{Detail, Shown};
use super::super::words;
use crate::core::finding::Severity;
use crate::core::route::Shaped;
use crate::core::sink::{Cause, Fault, incident_key};
use crate::formats::headline::headline;
use crate::formats::lines;

/// Longest encoded line.
const LINE: usize = 76;
/// Bytes of a word of a header before encoding, so that it fits its line.
const WORD: usize = 39;
/// Longest subject that is written as it is.
const PLAIN: usize = 200;

/// How one sink writes.
pub struct Letterhead {
    /// The sender's address.
    pub from: String,
    /// The recipients' addresses.
    pub to: Vec<String>,
    /// What subjects begin with.
    pub prefix: String,
    /// What may be told.
    pub shown: Shown,
}

/// Whether `text` is an address that can stand in a command and a header as it is.
pub fn is_address(text: &str) -> bool {
    let plain = |c: char| {
        c.is_ascii_graphic()
            && !matches!(c, '<' | '>' | ',' | ';' | ':' | '(' | ')' | '[' | ']' | '"' | '\\' | '@')
    };
    text.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty()
            && !host.is_empty()
            && text.len() <= 254
            && user.chars().all(plain)
            && host.chars().all(plain)
    })
}

impl Letterhead {
    /// `event` as a mail of at most `room` bytes: first the original gives way, then the last lines.
    pub fn write(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        let title = Markup::Plain.disarm(&headline(event)).into_owned();
        let mut text = words::lines(event, &self.shown, Markup::Plain);
        let facts = text.len();
        if self.shown.has(Detail::Event) {
            let original = String::from_utf8_lossy(&lines::line(&event.body)).into_owned();
            text.push_str(&format!("\n{}\n", Markup::Plain.disarm(original.trim_end())));
        }
        loop {
            let mail = self.mail(event, &title, &text);
            if mail.len() <= room {
                return Ok(mail.into());
            }
            if text.is_empty() {
                let note =
                    format!("a mail needs {} bytes and there is room for {room}", mail.len());
                return Err(Fault::new(Cause::TooLarge, note));
            }
            let kept = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
            text.truncate(if text.len() > facts { facts } else { kept });
        }
    }

    fn mail(&self, event: &Shaped, title: &str, text: &str) -> String {
        let (finding, event) = (event.finding(), &event.event);
        let domain = self.from.rsplit('@').next().unwrap_or("localhost");
        let date = event.received.strftime("%a, %d %b %Y %H:%M:%S +0000");
        let mut head = String::new();
        let mut header = |name: &str, value: &str| {
            head.extend([name, ": ", value, "\r\n"]);
        };
        header("From", &format!("siemgate <{}>", self.from));
        header("To", &self.to.join(",\r\n "));
        header("Subject", &subject(&format!("{}{title}", self.prefix)));
        header("Date", &date.to_string());
        header("Message-ID", &format!("<{}@{domain}>", event.id));
        if let Some(incident) = &finding.incident {
            // No mail has this id: it ties those of one incident together, whichever comes first.
            let thread = format!("<{}@incident.{domain}>", incident_key(Some(incident), event.id));
            header("In-Reply-To", &thread);
            header("References", &thread);
        }
        if matches!(finding.severity, Severity::Critical | Severity::High | Severity::Unknown) {
            header("Importance", "high");
        }
        header("Auto-Submitted", "auto-generated");
        header("MIME-Version", "1.0");
        header("Content-Type", "text/plain; charset=utf-8");
        header("Content-Transfer-Encoding", "base64");
        let body = STANDARD.encode(format!("{title}\n\n{text}").replace('\n', "\r\n"));
        let lines = body.as_bytes().chunks(LINE).map(|line| String::from_utf8_lossy(line));
        let body: String = lines.flat_map(|line| [line, "\r\n".into()]).collect();
        format!("{head}\r\n{body}")
    }
}

/// A header's text: as it is where it is short and plain, else as words by RFC 2047.
fn subject(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if plain && text.len() <= PLAIN && !text.contains("=?") {
        return text.to_owned();
    }
    let (mut words, mut word) = (Vec::new(), String::new());
    for c in text.chars() {
        if word.len() + c.len_utf8() > WORD {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let encoded = words.iter().map(|word| format!("=?UTF-8?B?{}?=", STANDARD.encode(word)));
    encoded.collect::<Vec<_>>().join("\r\n ")
}

/// `mail` as it stands behind DATA: a dot at the beginning of a line is doubled (RFC 5321, 4.5.2), and
/// a lone one ends it.
pub fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + 8);
    let mut starts = true;
    for byte in mail {
        if starts && *byte == b'.' {
            out.push(b'.');
        }
        out.push(*byte);
        starts = *byte == b'\n';
    }
    out.extend_from_slice(if starts { b".\r\n" } else { b"\r\n.\r\n" });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Timestamp;
    use crate::core::event::{Draft, Event, EventId, Position};
    use crate::core::finding::Finding;
    use crate::sinks::show::Reading;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn event(finding: Finding, body: &str) -> Shaped {
        let body = Bytes::from(body.to_owned());
        let draft = Draft::new(EventId::fresh(), Timestamp::UNIX_EPOCH, "s".into(), body);
        draft.decoded_by(|| finding);
        Shaped::unshaped(Arc::new(Event { position: Position(0), draft }))
    }

    fn letterhead(prefix: &str) -> Letterhead {
        Letterhead {
            from: "a@h.example".into(),
            to: vec!["b@h.example".into(), "c@h.example".into()],
            prefix: prefix.into(),
            shown: Shown::of(crate::core::sink::Class::Siem, Reading::default()),
        }
    }

    /// The headers unfolded and the text, as another would read them.
    fn read(mail: &[u8]) -> (Vec<(String, String)>, String) {
        let mail = std::str::from_utf8(mail).unwrap();
        let (head, body) = mail.split_once("\r\n\r\n").unwrap();
        let head = head.replace("\r\n ", " ");
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        let text = STANDARD.decode(body.replace("\r\n", "")).unwrap();
        (head.split("\r\n").map(pair).collect(), String::from_utf8(text).unwrap())
    }

    /// A subject by RFC 2047: white space between two encoded words is not part of it.
    fn decoded(subject: &str) -> String {
        let Some(rest) = subject.strip_prefix("=?UTF-8?B?") else { return subject.to_owned() };
        let words = rest.strip_suffix("?=").unwrap().split("?= =?UTF-8?B?");
        words.map(|word| String::from_utf8(STANDARD.decode(word).unwrap()).unwrap()).collect()
    }

    #[test]
    fn dots_are_doubled_and_one_ends_the_mail() {
        assert_eq!(stuffed(b"a\r\n.b\r\n..\r\n"), b"a\r\n..b\r\n...\r\n.\r\n");
        assert_eq!(stuffed(b".a"), b"..a\r\n.\r\n");
        for (good, address) in [
            (true, "a.b+c@h.example"),
            (false, "a@b@c"),
            (false, "A <a@b>"),
            (false, "a@b\r\nRCPT"),
            (false, "a@b>x"),
            (false, "\u{e4}@b"),
            (false, "@b"),
        ] {
            assert_eq!(is_address(address), good, "{address}");
        }
    }

    #[test]
    fn the_original_gives_way_first_then_the_last_lines() {
        let finding = Finding { user: Some("CORP\\jdoe".into()), ..Finding::default() };
        let event = event(finding, &format!("{{\"a\":\"{}\"}}", "x".repeat(5_000)));
        let (letterhead, room) = (letterhead(""), 1 << 16);
        let (_, all) = read(&letterhead.write(&event, room).unwrap());
        assert!(all.contains("xxx") && all.contains("User: CORP\\jdoe"), "{all}");
        let (_, facts) = read(&letterhead.write(&event, 3_000).unwrap());
        assert!(!facts.contains("xxx") && facts.contains("Event: "), "{facts}");
        let least = (1..3_000).find_map(|room| letterhead.write(&event, room).ok()).unwrap();
        assert_eq!(read(&least).1, "Unknown severity: event\r\n\r\n");
        assert_eq!(letterhead.write(&event, 300).unwrap_err().cause, Cause::TooLarge);
    }

    proptest! {
        #[test]
        fn no_name_adds_a_line_to_the_head(
            name in "\\PC*|[\r\nA-Za-z:@.=?\u{e4}\u{1f980}\u{2028}]{0,200}",
            prefix in "\\PC{0,20}",
        ) {
            let finding = Finding {
                clusters: vec![name.clone()], user: Some(name.clone()), incident: Some(name.clone()),
                files: vec![name].into(), ..Finding::default()
            };
            let event = event(finding, "{}");
            let mail = letterhead(&prefix).write(&event, 1 << 20).unwrap();
            prop_assert!(mail.is_ascii() && mail.ends_with(b"\r\n"));
            let text = std::str::from_utf8(&mail).unwrap();
            prop_assert!(text.split("\r\n").all(|line| line.len() <= 230 && !line.contains(['\r', '\n'])));
            let (head, text) = read(&mail);
            let names: Vec<&str> = head.iter().map(|(name, _)| &**name).collect();
            prop_assert_eq!(names, ["From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
                "Importance", "Auto-Submitted", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"]);
            prop_assert_eq!(&head[1].1, "b@h.example, c@h.example");
            let title = text.split("\r\n").next().unwrap();
            let (read, written) = (decoded(&head[2].1), format!("{prefix}{title}"));
            prop_assert_eq!(read.trim(), written.trim());
            prop_assert!(!text.contains("://") && !text.replace("\r\n", "").contains(char::is_control));
            prop_assert_eq!(letterhead(&prefix).write(&event, 1 << 20).unwrap(), mail);
        }
    }
}
