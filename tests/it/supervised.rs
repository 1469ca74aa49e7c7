//! Beside a service manager: it is told the truth, holds the sockets, and a taken port has a name.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::gateway::{Gateway, until};
use super::peer::{Answer, Peer};

const ARCHIVE: &str = r#"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = ["archive"]
[sinks.archive]
type = "file"
path = "{{dir}}/events.ndjson"
"#;

/// A destination, and two seconds to end.
fn taegis(peer: &Peer) -> String {
    let url = peer.url();
    format!(
        r#"
[server]
drain = "2s"
[sources.superna]
type = "superna"
path = "/webhook"
[routes.all]
sinks = ["out"]
[sinks.out]
type = "taegis"
url = "{url}"
key = {{ env = "KEY" }}
"#
    )
}

/// What makes the ear of a service manager fall asleep.
const ENOUGH: &str = "enough";

/// What a service manager hears, message by message. It listens on a thread of its own, as only a
/// few messages fit into the socket.
struct Heard {
    socket: Arc<UnixDatagram>,
    path: PathBuf,
    messages: Arc<Mutex<Vec<String>>>,
    ear: Option<JoinHandle<()>>,
}

impl Heard {
    /// From a gateway that will be launched, with a watchdog that bites after `watchdog`.
    fn from(gateway: &mut Gateway, watchdog: Duration) -> Self {
        let path = gateway.path("notify");
        let socket = Arc::new(UnixDatagram::bind(&path).unwrap());
        gateway.set_env("NOTIFY_SOCKET", path.to_str().unwrap());
        gateway.set_env("WATCHDOG_USEC", &watchdog.as_micros().to_string());
        let messages = Arc::new(Mutex::new(Vec::new()));
        let (from, to) = (socket.clone(), messages.clone());
        let ear = std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            loop {
                let Ok(bytes @ 1..) = from.recv(&mut buffer) else { return };
                let message = String::from_utf8(buffer[..bytes].to_vec()).unwrap();
                if message == ENOUGH {
                    return;
                }
                to.lock().unwrap().push(message);
            }
        });
        Self { socket, path, messages, ear: Some(ear) }
    }

    fn all(&self) -> Vec<String> {
        self.messages.lock().unwrap().clone()
    }

    /// Listen no more, with the socket full.
    fn fall_asleep(&mut self) {
        if let Some(ear) = self.ear.take() {
            let mouth = UnixDatagram::unbound().unwrap();
            mouth.send_to(ENOUGH.as_bytes(), &self.path).unwrap();
            ear.join().unwrap();
            mouth.set_nonblocking(true).unwrap();
            while mouth.send_to(b"X_OTHER=1", &self.path).is_ok() {}
        }
    }

    fn count(&self, word: &str) -> usize {
        self.all().iter().filter(|message| message.lines().any(|line| line == word)).count()
    }

    async fn until(&self, word: &str, count: usize) {
        let what = format!("{word} is heard {count} times");
        until(&what, async || (self.count(word) >= count).then_some(())).await;
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        // Closing both ends wakes the ear, whatever the test left behind.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

#[tokio::test]
async fn the_service_manager_hears_of_the_start_reloads_life_and_the_end() {
    let mut gateway = Gateway::prepared(ARCHIVE);
    let heard = Heard::from(&mut gateway, Duration::from_millis(150));
    gateway.launch().await;
    heard.until("READY=1", 1).await;
    let port = gateway.webhook.rsplit(':').next().unwrap();
    let status = format!("STATUS=listening on [127.0.0.1:{port}]");
    let all = heard.all();
    assert!(all[0].lines().any(|line| line == status), "{all:?}");
    heard.until("WATCHDOG=1", 3).await;

    assert_eq!(gateway.cli(&["reload"]).await.code, Some(0));
    gateway.configure("20-bad.toml", "[sinks.archive]\npaht = \"x\"\n");
    // The folder is watched.
    heard.until("READY=1", 3).await;
    let all = heard.all();
    let reloads: Vec<&String> =
        all.iter().filter(|message| message.contains("RELOADING=1")).collect();
    assert!(reloads.len() >= 2, "{all:?}");
    // Managers from 253 on end a service that does not say when the reload began.
    let began = |message: &&String| {
        let time = message.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        time.is_some_and(|time| time.parse::<u64>().is_ok_and(|time| time > 0))
    };
    assert!(reloads.iter().all(began), "{reloads:?}");
    let last = all.iter().rfind(|message| message.contains("READY=1")).unwrap();
    assert!(last.contains("the last good one is in force"), "{last}");

    std::fs::remove_file(gateway.path("config.d/20-bad.toml")).unwrap();
    gateway.stop().await;
    heard.until("STOPPING=1", 1).await;
    let all = heard.all();
    let end = all.iter().position(|message| message.contains("STOPPING=1")).unwrap();
    assert!(all[end].contains("\nEXTEND_TIMEOUT_USEC=30000000\n"), "10 s, and 20 more");
    assert!(!all[end..].iter().any(|message| message.contains("READY=1")));
    gateway.finish().await;
}

#[tokio::test]
async fn a_manager_that_does_not_listen_holds_nothing_up() {
    let mut gateway = Gateway::prepared(ARCHIVE);
    let mut heard = Heard::from(&mut gateway, Duration::from_millis(150));
    gateway.launch().await;
    heard.until("WATCHDOG=1", 1).await;
    heard.fall_asleep();
    assert_eq!(gateway.cli(&["reload"]).await.code, Some(0));
    gateway.post("/webhook?wait=30s", r#"{"severity":"CRITICAL"}"#).await.ids();
    gateway.finish().await;
}

#[tokio::test]
async fn a_gateway_whose_disk_fails_is_not_called_alive_and_ends_with_74() {
    let peer = Peer::start().await;
    peer.always(Answer::hang());
    let mut gateway = Gateway::prepared(&taegis(&peer));
    gateway.set_env("KEY", "k");
    let heard = Heard::from(&mut gateway, Duration::from_millis(150));
    gateway.limit_files(1_024);
    gateway.launch().await;
    heard.until("WATCHDOG=1", 1).await;
    let told = gateway.post("/webhook", r#"{"severity":"CRITICAL"}"#).await;
    assert_eq!(told.status, 503, "{told:?}");
    assert_eq!(gateway.ended().await.code(), Some(74), "{}", gateway.journal_text());
    heard.until("STOPPING=1", 1).await;
    let all = heard.all();
    // It drained for two seconds, in which a mere timer would have spoken forty times.
    let end = all.iter().position(|message| message.contains("STOPPING=1")).unwrap();
    let after = all[end..].iter().filter(|message| message.contains("WATCHDOG=1"));
    assert_eq!(after.count(), 0, "{all:?}");
    gateway.finish().await;
}

/// Post events, each on a connection of its own or all on one, until told to stop. Every one must
/// be accepted.
async fn send(url: &str, next: &AtomicUsize, stop: &AtomicBool, keep: usize) -> Vec<String> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(keep);
    let client = client.timeout(Duration::from_secs(30)).build().unwrap();
    let mut sent = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let body = format!(r#"{{"severity":"CRITICAL","state":"LOCKED_OUT","n":{number}}}"#);
        let answer = client.post(url).body(body.clone()).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("event {number} was refused: {error:?}"));
        assert_eq!(answer.status(), 200, "event {number}");
        sent.push(body);
    }
    sent
}

/// What the archive holds, without what a restart wrote twice.
fn distinct(gateway: &Gateway) -> Vec<String> {
    let mut lines = gateway.lines("events.ndjson");
    lines.sort();
    lines.dedup();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_refuses_nobody_while_the_manager_holds_the_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut gateway = Gateway::prepared(ARCHIVE);
    gateway.configure("20-listen.toml", &format!("[server]\nlisten = \"{address}\"\n"));
    gateway.hold(listener);
    gateway.launch().await;
    assert_eq!(gateway.webhook, format!("http://{address}"));

    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let url = format!("{}/webhook", gateway.webhook);
    let senders = (0..6).map(|sender| send(&url, &next, &stop, sender % 2));
    let restarts = async {
        for restart in 1..=5 {
            let enough = next.load(Ordering::Relaxed) + 100;
            until("the load goes on", async || {
                (next.load(Ordering::Relaxed) >= enough).then_some(())
            })
            .await;
            gateway.stop().await;
            gateway.launch().await;
            println!("restart {restart}");
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (sent, ()) =
        futures_util::future::join(futures_util::future::join_all(senders), restarts).await;
    let mut sent: Vec<String> = sent.into_iter().flatten().collect();
    until("all have arrived", async || (distinct(&gateway).len() == sent.len()).then_some(()))
        .await;
    sent.sort();
    assert_eq!(distinct(&gateway), sent);
    gateway.finish().await;
}

#[tokio::test]
async fn a_sender_that_keeps_its_connection_is_sent_on_to_whoever_listens_next() {
    let peer = Peer::start().await;
    peer.always(Answer::hang());
    let mut gateway = Gateway::prepared(&taegis(&peer));
    gateway.set_env("KEY", "k");
    gateway.launch().await;
    let told = gateway.post("/webhook", r#"{"severity":"CRITICAL"}"#).await;
    assert_eq!((told.status, told.headers.get("connection")), (200, None));
    gateway.ask_to_stop();
    until("answers end their connections", async || {
        let told = gateway.post("/webhook", r#"{"severity":"CRITICAL"}"#).await;
        assert_eq!(told.status, 200, "{told:?}");
        told.headers.get("connection").is_some_and(|value| value == "close").then_some(())
    })
    .await;
    assert!(gateway.ended().await.success());
    gateway.finish().await;
}

#[tokio::test]
async fn a_held_socket_that_nobody_would_answer_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut gateway = Gateway::prepared(ARCHIVE);
    gateway.hold(listener);
    let told = gateway.refused().await;
    assert_eq!(told.code, Some(78), "{told:?}");
    let expected = format!("the socket unit has {address}, and neither `server.listen` nor");
    assert!(told.err.contains(&expected) && told.err.contains("systemctl edit"), "{told:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_taken_port_names_who_holds_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Gateway::prepared(ARCHIVE);
    gateway.configure("20-listen.toml", &format!("[server]\nlisten = \"{address}\"\n"));
    let told = gateway.refused().await;
    assert_eq!(told.code, Some(1), "{told:?}");
    let pid = std::process::id();
    let expected = format!("cannot listen on {address}: ");
    assert!(told.err.contains(&expected), "{told:?}");
    assert!(told.err.contains(&format!("(pid {pid}")), "{told:?}");
    assert!(told.err.contains("write another address in server.listen"), "{told:?}");
    gateway.finish().await;
}
