//! A raw HTTP/1.1 client: for what a polite client hides, such as whether a connection survives.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection to a listener.
pub struct Wire(TcpStream);

impl Wire {
    /// Connect to `http://ADDRESS`.
    pub async fn open(url: &str) -> Self {
        Self(TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap())
    }

    /// Send these bytes, and read one answer: status and body.
    pub async fn exchange(&mut self, request: impl AsRef<[u8]>) -> (u16, String) {
        self.0.write_all(request.as_ref()).await.unwrap();
        self.answer().await
    }

    async fn answer(&mut self) -> (u16, String) {
        let mut read = Vec::new();
        let end = loop {
            if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.more(&mut read).await;
        };
        let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
        while read.len() < end + length {
            self.more(&mut read).await;
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, String::from_utf8_lossy(&read[end..]).into_owned())
    }

    async fn more(&mut self, read: &mut Vec<u8>) {
        let count = self.0.read_buf(read).await.unwrap();
        assert!(
            count > 0,
            "the connection was closed; so far: {:?}",
            String::from_utf8_lossy(read)
        );
    }
}

/// A POST with a Content-Length.
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
