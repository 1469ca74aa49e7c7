//! A mail server for tests: it takes what it is told to take, and keeps it as it came, undone of its dots.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// Gives a command its answer; `None` is the usual one. The mail itself is the command `.`, a new
/// connection the command ``. Without an answer at all (`Some("")`) the connection ends.
type Script = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a mailbox has and says.
#[derive(Clone)]
pub struct Book {
    mails: Arc<Mutex<Vec<Bytes>>>,
    said: Arc<Mutex<Vec<String>>>,
    script: Arc<Mutex<Script>>,
}

impl Default for Book {
    fn default() -> Self {
        let script: Script = Arc::new(|_| None);
        let (mails, said) = Default::default();
        Self { mails, said, script: Arc::new(Mutex::new(script)) }
    }
}

pub struct Mailbox {
    port: u16,
    book: Book,
    task: JoinHandle<()>,
}

impl Mailbox {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let book = Book::default();
        let task = tokio::spawn({
            let book = book.clone();
            async move {
                // Dropped with this task, and every connection with it.
                let mut talks = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let book = book.clone();
                    talks.spawn(async move { book.talk(stream).await.ok() });
                }
            }
        });
        Self { port, book, task }
    }

    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// Answer so from now on.
    pub fn answer(&self, script: impl Fn(&str) -> Option<String> + Send + Sync + 'static) {
        *self.book.script.lock().unwrap() = Arc::new(script);
    }

    pub fn mails(&self) -> Vec<Bytes> {
        self.book.mails.lock().unwrap().clone()
    }

    /// All commands.
    pub fn said(&self) -> Vec<String> {
        self.book.said.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.book.mails.lock().unwrap().clear();
        self.book.said.lock().unwrap().clear();
    }

    pub async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Book {
    /// One connection, in clear or not.
    pub async fn talk<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> std::io::Result<()> {
        let scripted = |command: &str| self.script.lock().unwrap().clone()(command);
        let mut stream = BufReader::new(stream);
        let greeting = scripted("").unwrap_or_else(|| "220-mail.example\r\n220 ready".to_owned());
        stream.write_all(format!("{greeting}\r\n").as_bytes()).await?;
        stream.flush().await?;
        loop {
            let mut command = String::new();
            if stream.read_line(&mut command).await? == 0 {
                return Ok(());
            }
            let command = command.trim_end().to_owned();
            self.said.lock().unwrap().push(command.clone());
            let usual = match command.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" => "250-mail.example\r\n250-SIZE 1000000\r\n250 8BITMIME",
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 fine",
            };
            let answer = scripted(&command).unwrap_or_else(|| usual.to_owned());
            if answer.is_empty() {
                return Ok(());
            }
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
            stream.flush().await?;
            if answer.starts_with("354") {
                let mail = body(&mut stream).await?;
                let scripted = scripted(".");
                if scripted.is_none() {
                    self.mails.lock().unwrap().push(mail);
                }
                let answer = scripted.unwrap_or_else(|| "250 kept as 1".to_owned());
                if answer.is_empty() {
                    return Ok(());
                }
                stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
                stream.flush().await?;
            }
        }
    }
}

async fn body<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<Bytes> {
    let mut mail = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        assert!(line.ends_with(b"\r\n") && line.len() <= 1_000, "no line of a mail: {line:?}");
        match &line[..] {
            b".\r\n" => return Ok(mail.into()),
            [b'.', rest @ ..] => mail.extend_from_slice(rest),
            line => mail.extend_from_slice(line),
        }
    }
}
