//! Where the events of any kind of sink arrive in tests: an HTTP peer, a receiver on a socket, a
//! broker, or a folder. Chosen by the placeholders of the kind's sample, so that a new kind has one without a
//! line of its own.

use bytes::Bytes;
use siemgate::sinks::Entry;
use tempfile::TempDir;

use super::broker::{Broker, Speaks};
use super::mailbox::Mailbox;
use super::peer::{Answer, Peer, Request};
use super::receiver::Receiver;
use super::sinks::{files, folder};

/// What a kind delivers to.
pub enum Way {
    Http(Peer),
    Socket(Receiver),
    Mail(Mailbox),
    Broker(Broker),
    Folder,
    /// Nobody can look.
    Nowhere,
}

/// A destination, and a folder with the secret that samples refer to.
pub struct Destination {
    pub way: Way,
    pub dir: TempDir,
}

/// What a request says: a form without its encoding.
fn readable((request, body): (&Request, Bytes)) -> Bytes {
    let is_form = request.header("content-type").is_some_and(|kind| kind.contains("form"));
    if !is_form {
        return body;
    }
    let pairs = form_urlencoded::parse(&body);
    pairs.map(|(name, value)| format!("{name}={value}\n")).collect::<String>().into()
}

/// Whether the kind speaks HTTP.
pub fn is_http(kind: &Entry) -> bool {
    kind.sample().contains("{{peer}}")
}

/// Whether the kind speaks over a connection, on which a broken one makes doubles.
pub fn is_stream(kind: &Entry) -> bool {
    kind.sample().contains("address = \"tcp://{{host}}")
}

/// Whether the kind sends datagrams.
pub fn is_datagram(kind: &Entry) -> bool {
    kind.sample().contains("udp://{{host}}")
}

/// Whether the kind hands its messages to a broker, which acknowledges each.
pub fn is_broker(kind: &Entry) -> bool {
    Speaks::of(kind).is_some()
}

impl Destination {
    pub async fn of(kind: &Entry) -> Self {
        let way = match kind {
            kind if is_http(kind) => {
                let peer = Peer::start().await;
                let (status, body) = kind.success();
                peer.always(Answer::new(status, body));
                Way::Http(peer)
            }
            kind if is_stream(kind) => Way::Socket(Receiver::tcp().await),
            kind if is_broker(kind) => {
                Way::Broker(Broker::start(Speaks::of(kind).unwrap(), 0).await)
            }
            kind if is_datagram(kind) => Way::Socket(Receiver::udp().await),
            kind if kind.sample().contains("smtp://{{host}}") => Way::Mail(Mailbox::start().await),
            kind if kind.sample().contains("{{dir}}") => Way::Folder,
            _ => Way::Nowhere,
        };
        Self { way, dir: folder() }
    }

    /// For the placeholders of the sample.
    pub fn url(&self) -> String {
        match &self.way {
            Way::Http(peer) => peer.url(),
            Way::Socket(receiver) => receiver.url(),
            Way::Mail(mailbox) => mailbox.url(),
            Way::Broker(broker) => broker.url(),
            Way::Folder | Way::Nowhere => "http://127.0.0.1:9".into(),
        }
    }

    /// The HTTP peer of a kind that speaks HTTP.
    pub fn peer(&self) -> &Peer {
        match &self.way {
            Way::Http(peer) => peer,
            _ => panic!("no HTTP"),
        }
    }

    pub fn forget(&self) {
        match &self.way {
            Way::Http(peer) => peer.forget(),
            Way::Socket(receiver) => receiver.forget(),
            Way::Mail(mailbox) => mailbox.forget(),
            Way::Broker(broker) => broker.forget(),
            Way::Folder | Way::Nowhere => {
                for (name, _) in files(self.dir.path()) {
                    std::fs::remove_file(self.dir.path().join(name)).unwrap();
                }
            }
        }
    }

    /// What arrived, in requests, messages or files, as soon as it is `all`; `None` where nobody
    /// can look.
    pub async fn arrived(&self, all: impl Fn(&[Bytes]) -> bool) -> Option<Vec<Bytes>> {
        match &self.way {
            Way::Http(peer) => {
                Some(peer.requests().iter().zip(peer.bodies()).map(readable).collect())
            }
            Way::Mail(mailbox) => Some(mailbox.mails()),
            // A message is delivered when it is on its way.
            Way::Socket(receiver) => Some(
                super::gateway::until("everything has come", async || {
                    Some(receiver.messages()).filter(|messages| all(messages))
                })
                .await,
            ),
            Way::Broker(broker) => Some(broker.messages()),
            Way::Folder => {
                Some(files(self.dir.path()).into_iter().map(|(_, bytes)| bytes.into()).collect())
            }
            Way::Nowhere => None,
        }
    }

    pub fn can_look(&self) -> bool {
        !matches!(self.way, Way::Nowhere)
    }

    /// The JSON of what arrived: without the header of a message.
    pub fn json<'b>(&self, arrived: &'b [u8]) -> &'b [u8] {
        match &self.way {
            Way::Socket(_) => {
                let start = arrived.iter().position(|byte| *byte == b'{');
                &arrived[start.expect("an object")..]
            }
            _ => arrived,
        }
    }

    /// Go away.
    pub async fn stop(self) -> TempDir {
        match self.way {
            Way::Http(peer) => peer.stop().await,
            Way::Socket(receiver) => receiver.stop().await,
            Way::Mail(mailbox) => mailbox.stop().await,
            Way::Broker(broker) => broker.stop().await,
            Way::Folder | Way::Nowhere => {}
        }
        self.dir
    }
}
