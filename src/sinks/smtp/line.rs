//! One connection to a mail server: commands out, replies in.
//!
//! Guarantees: a reply is read whole, within a limit, and is one by RFC 5321 or an error; what a server
//! said before TLS is never taken for what it says after.

use std::io;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::core::sink::Reply;
use crate::sinks::tls::Tls;

/// Longest reply, all lines.
const REPLY: u64 = 16 << 10;

/// A connection, in clear or encrypted.
pub struct Line<S>(BufReader<S>);

/// What a server said.
#[derive(Clone, Debug)]
pub struct Said {
    /// The three digits.
    pub code: u16,
    /// The texts after them.
    pub lines: Vec<String>,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum Silence {
    /// The connection ended or broke.
    Broken(io::Error),
    /// What was said is no reply of a mail server.
    Strange,
}

impl From<io::Error> for Silence {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Said {
    /// What the extension `word` says of itself, if the server has it.
    pub fn extension(&self, word: &str) -> Option<&str> {
        self.lines.iter().skip(1).find_map(|line| {
            let (name, rest) = line.split_once([' ', '=']).unwrap_or((line, ""));
            name.eq_ignore_ascii_case(word).then_some(rest)
        })
    }

    /// All of it on one line, for people.
    pub fn text(&self) -> String {
        let text = self.lines.join(" ");
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    /// As a destination's reply.
    pub fn reply(&self) -> Reply {
        let mut excerpt = self.text();
        excerpt.truncate(excerpt.floor_char_boundary(Reply::EXCERPT));
        Reply { status: Some(self.code), excerpt, ..Reply::default() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// On an open connection.
    pub fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    /// Say `command`, and hear the reply.
    pub async fn ask(&mut self, command: &str) -> Result<Said, Silence> {
        self.write(format!("{command}\r\n").as_bytes()).await?;
        self.hear().await
    }

    /// Say these bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Silence> {
        self.0.write_all(bytes).await?;
        Ok(self.0.flush().await?)
    }

    /// One reply, all of its lines.
    pub async fn hear(&mut self) -> Result<Said, Silence> {
        let (mut lines, mut left) = (Vec::new(), (&mut self.0).take(REPLY));
        loop {
            let mut bytes = Vec::new();
            left.read_until(b'\n', &mut bytes).await?;
            if !bytes.ends_with(b"\n") {
                return Err(match left.limit() {
                    0 => Silence::Strange,
                    _ => io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up").into(),
                });
            }
            let (code, goes_on, text) = parse(&bytes).ok_or(Silence::Strange)?;
            lines.push(text);
            if !goes_on {
                return Ok(Said { code, lines });
            }
        }
    }
}

/// Code, whether another line follows, and text of one line.
fn parse(line: &[u8]) -> Option<(u16, bool, String)> {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end();
    let (code, rest) = line.split_at_checked(3)?;
    let digits = code.bytes().all(|byte| byte.is_ascii_digit());
    let code = code.parse().ok().filter(|code| digits && (200..600).contains(code))?;
    let goes_on = match rest.chars().next() {
        None | Some(' ') => false,
        Some('-') => true,
        Some(_) => return None,
    };
    Some((code, goes_on, rest.get(1..).unwrap_or_default().to_owned()))
}

impl Line<TcpStream> {
    /// The same connection encrypted, to a server called `host`. Nothing may be left of what it said in
    /// clear: that would be somebody else's.
    pub async fn encrypted(
        self,
        tls: &Tls,
        host: &str,
    ) -> Result<Line<TlsStream<TcpStream>>, Silence> {
        if !self.0.buffer().is_empty() {
            return Err(Silence::Strange);
        }
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(tls.config().clone());
        Ok(Line::new(connector.connect(name, self.0.into_inner()).await?))
    }
}

/// Either, so that what follows need not care.
pub trait Either: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Either for S {}

impl<S: Either + 'static> Line<S> {
    /// Without its type. Nothing has been read ahead when a conversation begins.
    pub fn boxed(self) -> Line<Box<dyn Either>> {
        let (buffer, stream) = (self.0.buffer().to_vec(), self.0.into_inner());
        debug_assert!(buffer.is_empty());
        Line::new(Box::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn heard(bytes: &'static [u8]) -> Result<Said, Silence> {
        let mut stream = tokio_test(bytes);
        stream.hear().await
    }

    fn tokio_test(bytes: &'static [u8]) -> Line<tokio::io::DuplexStream> {
        let (mut there, here) = tokio::io::duplex(1 << 16);
        futures_util::future::FutureExt::now_or_never(there.write_all(bytes));
        Line::new(here)
    }

    #[tokio::test]
    async fn replies_are_told_from_noise() {
        let said =
            heard(b"250-mail.example\r\n250-SIZE 1000\r\n250-auth=PLAIN LOGIN\r\n250 8BITMIME\r\n");
        let said = said.await.unwrap();
        assert_eq!((said.code, said.lines.len()), (250, 4));
        assert_eq!(said.extension("size"), Some("1000"));
        assert_eq!(said.extension("AUTH"), Some("PLAIN LOGIN"));
        assert_eq!(said.extension("8bitmime"), Some(""));
        assert_eq!(said.extension("mail.example"), None, "the first line is a greeting");
        assert!(heard(b"250\r\n").await.is_ok_and(|said| said.code == 250));
        for noise in [
            &b"hello\r\n"[..],
            b"+25 x\r\n",
            b"HTTP/1.1 400 Bad\r\n",
            b"999 x\r\n",
            b"25\r\n",
            b"250x\r\n",
            b"\xff\xff\xff\xff\n",
        ] {
            assert!(matches!(heard(noise).await, Err(Silence::Strange)), "{noise:?}");
        }
        for cut in [&b""[..], b"250-x\r\n", b"250 x"] {
            assert!(matches!(heard(cut).await, Err(Silence::Broken(_))), "{cut:?}");
        }
        let endless: &'static [u8] = Box::leak(b"250-x\r\n".repeat(5_000).into_boxed_slice());
        assert!(matches!(heard(endless).await, Err(Silence::Strange)));
    }
}
