//! A message as it goes over a socket: header, text, frame.
//!
//! Guarantees: pure; the text has no line break, so a line feed ends a message and nothing else
//! does (a null byte neither stands in JSON nor in the other formats); the length before an octet-counted message is that of its bytes; the message without its
//! frame is never longer than `max_bytes`: the header stays, the format shortens the text.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::route::{Format, Shaped};
use crate::core::sink::{Cause, Fault};
use crate::formats::{rfc3164, rfc5424};

/// How the receiver finds the end of a message in the stream; `octet` unless set, `nul` in `gelf`. With
/// `octet` a message that a broken connection has cut off is never taken for a whole one, and RFC 5425
/// demands it for TLS. QRadar and receivers of plain lines need `lf`; rsyslog takes both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// The length stands before each message (octet counting, RFC 6587).
    Octet,
    /// A line feed ends each message.
    Lf,
    /// A null byte ends each message (GELF).
    Nul,
}

/// What stands before the text.
#[derive(Clone, Debug)]
pub enum Head {
    /// Nothing: the line by itself.
    Plain,
    /// RFC 5424, and whether the text begins with a byte order mark.
    Rfc5424(rfc5424::Header, bool),
    /// RFC 3164.
    Rfc3164(rfc3164::Header),
}

impl Head {
    fn write(&self, event: &Shaped) -> Vec<u8> {
        match self {
            Self::Plain => Vec::new(),
            Self::Rfc5424(header, bom) => {
                let bom = if *bom { rfc5424::BOM } else { &[] };
                [header.write(event).as_bytes(), bom].concat()
            }
            Self::Rfc3164(header) => header.write(event).into_bytes(),
        }
    }

    /// Most bytes before the text.
    pub fn longest(&self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Rfc5424(header, bom) => {
                header.longest() + if *bom { rfc5424::BOM.len() } else { 0 }
            }
            Self::Rfc3164(header) => header.longest(),
        }
    }
}

/// How one sink writes.
#[derive(Clone, Debug)]
pub struct Message {
    /// What stands before the text.
    pub head: Head,
    /// How the text is written, unless the route says so.
    pub format: &'static Format,
    /// `None`: a datagram is its own frame.
    pub framing: Option<Framing>,
    /// Longest message without its frame.
    pub max_bytes: usize,
}

impl Message {
    /// Most bytes that a frame adds.
    fn frame(&self) -> usize {
        match self.framing {
            Some(Framing::Octet) => self.max_bytes.to_string().len() + 1,
            Some(Framing::Lf | Framing::Nul) => 1,
            None => 0,
        }
    }

    /// Most bytes that `write` can make.
    pub fn longest(&self) -> usize {
        self.max_bytes + self.frame()
    }

    /// The event as it goes over the wire.
    pub fn write(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        let head = self.head.write(event);
        let most = room.saturating_sub(self.frame()).min(self.max_bytes);
        let format = event.format.unwrap_or(self.format);
        let text = most.checked_sub(head.len()).and_then(|room| (format.write)(event, room));
        let Some(text) = text else {
            let name = format.name;
            let note =
                format!("the event cannot be written as {name} in {most} bytes; see max_bytes");
            return Err(Fault::new(Cause::TooLarge, note));
        };
        let length = (head.len() + text.len()).to_string();
        let (before, after) = match self.framing {
            Some(Framing::Octet) => (length + " ", ""),
            Some(Framing::Lf) => (String::new(), "\n"),
            Some(Framing::Nul) => (String::new(), "\0"),
            None => (String::new(), ""),
        };
        Ok([before.as_bytes(), &head, &text, after.as_bytes()].concat().into())
    }
}
