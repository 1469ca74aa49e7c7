//! What a mail server's refusal means: the step at which it came, and its code (RFC 5321, 4954, 3463).
//!
//! Guarantees: pure; what only a change here or there can cure is `Setup`, what passes is `Busy` or
//! `Down`; only what is said about the mail itself, after it was sent, can be `Refused`.

use std::time::Duration;

use super::line::Said;
use crate::core::sink::Cause;

/// A server that does not know a sender yet asks it to come back. Most are content after one to five
/// minutes, so that it is asked again every minute.
const GREYLISTED: Duration = Duration::from_secs(60);

/// How far a conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The server's first words, EHLO, STARTTLS.
    Hello,
    /// AUTH.
    Login,
    /// MAIL FROM.
    From,
    /// RCPT TO, of all of them.
    To,
    /// DATA.
    Data,
    /// The mail.
    Mail,
}

/// What follows from a refusal.
#[derive(Debug)]
pub struct Meaning {
    /// What the worker does.
    pub cause: Cause,
    /// How long to wait.
    pub wait: Option<Duration>,
    /// For people.
    pub what: &'static str,
    /// The setting to look at.
    pub key: Option<&'static str>,
}

fn meaning(cause: Cause, what: &'static str, key: Option<&'static str>) -> Meaning {
    Meaning { cause, wait: None, what, key }
}

/// Whether somebody's mailbox is full or the like: nothing is wrong with the mail.
pub fn passes(said: &Said) -> bool {
    matches!(said.code, 400..=499 | 552) || full(said)
}

/// The enhanced code of a full mailbox.
fn full(said: &Said) -> bool {
    said.lines.iter().any(|line| line.starts_with("5.2.2"))
}

/// What `said` means at `step`.
pub fn refusal(step: Step, said: &Said) -> Meaning {
    use Cause::{Busy, Down, Refused, Setup, TooLarge};
    match (step, said.code) {
        (_, 421) => meaning(Down, "the server closes the connection", None),
        (Step::From | Step::To | Step::Data | Step::Mail, 450 | 451) => {
            let what = "the server asks to try again later";
            Meaning { wait: Some(GREYLISTED), ..meaning(Busy, what, None) }
        }
        (_, 400..=499) => meaning(Down, "the server is in trouble", None),
        (Step::Mail | Step::To, 500..=599) if full(said) => {
            meaning(Down, "a mailbox is full", None)
        }
        (Step::To, 552) => meaning(Down, "a mailbox is full", None),
        (Step::Mail | Step::From, 523 | 552) => meaning(TooLarge, "too large for the server", None),
        (Step::Login, 500..=599) => {
            meaning(Setup, "the server does not accept the login", Some("password"))
        }
        (_, 530 | 534 | 535 | 538) => {
            meaning(Setup, "the server wants a login, or another one", Some("user"))
        }
        (Step::Hello, 500..=599) => {
            meaning(Setup, "the server does not talk to this machine", Some("address"))
        }
        (Step::From, 500..=599) => {
            meaning(Setup, "the server takes no mail from this sender", Some("from"))
        }
        (Step::To, 500..=599) => {
            meaning(Setup, "the server takes mail for none of the recipients", Some("to"))
        }
        (Step::Data, 500..=599) => meaning(Setup, "the server takes no mail now", Some("to")),
        (Step::Mail, 500..=599) => meaning(Refused, "the server refuses the mail", None),
        _ => meaning(Setup, "the server answers something else than it should", Some("address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: u16, text: &str) -> Said {
        Said { code, lines: vec![text.to_owned()] }
    }

    #[test]
    fn the_same_code_means_another_thing_at_another_step() {
        for (step, code, text, cause) in [
            (Step::Hello, 554, "no service for you", Cause::Setup),
            (Step::Hello, 421, "too many connections", Cause::Down),
            (Step::Login, 535, "5.7.8 bad", Cause::Setup),
            (Step::Login, 454, "4.7.0 later", Cause::Down),
            (Step::From, 552, "5.3.4 too big", Cause::TooLarge),
            (Step::From, 553, "not yours", Cause::Setup),
            (Step::From, 530, "log in", Cause::Setup),
            (Step::To, 550, "no such user", Cause::Setup),
            (Step::To, 552, "mailbox full", Cause::Down),
            (Step::To, 550, "5.2.2 over quota", Cause::Down),
            (Step::To, 451, "greylisted", Cause::Busy),
            (Step::Data, 554, "no valid recipients", Cause::Setup),
            (Step::Mail, 552, "5.2.2 full", Cause::Down),
            (Step::Mail, 552, "5.3.4 too big", Cause::TooLarge),
            (Step::Mail, 554, "spam", Cause::Refused),
            (Step::Mail, 452, "no space", Cause::Down),
            (Step::Mail, 354, "go on", Cause::Setup),
        ] {
            assert_eq!(refusal(step, &said(code, text)).cause, cause, "{step:?} {code} {text}");
        }
    }
}
