//! The server's side of a NATS connection, as far as a publisher sees it.

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};

use super::broker::Book;

/// Take every message, and acknowledge it as a stream does.
pub async fn converse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, book: Book) {
    let _ = talk(BufStream::new(stream), book).await;
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: BufStream<S>,
    book: Book,
) -> std::io::Result<()> {
    stream.write_all(b"INFO {\"server_id\":\"peer\",\"version\":\"2.10.0\",\"headers\":true,\"max_payload\":67108864}\r\n").await?;
    stream.flush().await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["PING"] => "PONG\r\n".to_owned(),
            ["HPUB", _, to, head, size] => {
                let (head, mut message) = (head.parse().unwrap(), body(&mut stream, size).await?);
                let body = Bytes::from(message.split_off(head));
                let mut book = book.lock().unwrap();
                book.messages.push(body);
                let ack = format!("{{\"stream\":\"TEST\",\"seq\":{}}}", book.messages.len());
                format!("MSG {to} 1 {}\r\n{ack}\r\n", ack.len())
            }
            ["PUB", _, to, size] => {
                body(&mut stream, size).await?;
                let streams = r#"{"total":1,"streams":["TEST"]}"#;
                format!("MSG {to} 1 {}\r\n{streams}\r\n", streams.len())
            }
            _ => continue,
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
}

async fn body(stream: &mut (impl AsyncRead + Unpin), size: &str) -> std::io::Result<Vec<u8>> {
    let mut body = vec![0; size.parse::<usize>().unwrap() + 2];
    stream.read_exact(&mut body).await?;
    body.truncate(body.len() - 2);
    Ok(body)
}
