//! The day of the attack: alerts come by the thousand while everything else goes wrong, and a verdict
//! is printed.
//!
//! 50 alerts a second, one in ten critical; file names that a web application firewall answers with 403
//! or 500; a SIEM that throttles and then refuses the token; a link that is down; the disk filling to
//! `log.min_free`; a certificate that expires; a reload. `SIEMGATE_ATTACK_SECONDS` says how long (25
//! unless set); `make attack` has the ten minutes. Where no small disk can be made (see `log_disks.rs`)
//! its part is left out, and that is said.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Certificate, Client};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::certificates::{Authority, valid};
use super::gateway::{Gateway, sample, until};
use super::log_disks::Mounted;
use super::peer::{Answer, Peer, Request};

/// 3,000 a minute.
const EVERY: Duration = Duration::from_millis(20);
/// After the attack.
const CALM: Duration = Duration::from_millis(250);
/// How long a critical alert may take to a sink that can be reached.
const SOON: Duration = Duration::from_secs(5);
/// The same where a firewall's verdicts must be told from a wrong setting first.
const SOON_BEHIND_THE_WAF: Duration = Duration::from_secs(20);
const MIN_FREE: u64 = 32 << 20;
/// What the firewall answers with 403, and what with 500.
const FORBIDDEN: &str = "x' OR 1=1 --.docx";
const BREAKING: &str = "${jndi:ldap.xlsx";
/// Those that every alert is asserted at.
const SINKS: [&str; 4] = ["siem", "waf", "link", "archive"];

fn seconds() -> u64 {
    let set = std::env::var("SIEMGATE_ATTACK_SECONDS").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(25)
}

/// The configuration, in one of its two versions.
fn config(peers: [&Peer; 2], in_flight: usize) -> String {
    let mut text = format!(
        r#"
[server]
drain = "2s"
admin_socket = "{{{{dir}}}}/admin.sock"
[server.tls]
listen = "127.0.0.1:0"
cert_file = "{{{{dir}}}}/cert.pem"
key_file = "{{{{dir}}}}/cert.key"
[log]
min_free = "32MiB"
segment_bytes = "1MiB"
when_full = "refuse"
[sources.superna]
type = "superna"
path = "/webhook"
[sources.calm]
type = "superna"
path = "/calm"
[routes.all]
sinks = {SINKS:?}
[routes.people]
sources = ["superna"]
sinks = "chat"
[alarms]
sinks = "own"
every = "2s"
late = "2s"
[sinks.chat]
type = "slack"
url = "{}/services/T/B/x"
"#,
        peers[0].url()
    );
    for file in ["archive", "own"] {
        text += &format!(
            "[sinks.{file}]\ntype = \"file\"\npath = \"{{{{dir}}}}/{file}.ndjson\"\nrotate_bytes = \"1GiB\"\n"
        );
    }
    for (sink, peer) in [("siem", peers[0]), ("waf", peers[0]), ("link", peers[1])] {
        text += &format!(
            "[sinks.{sink}]\ntype = \"taegis\"\nurl = \"{}/{sink}\"\nkey = {{ env = \"KEY\" }}\n[sinks.{sink}.delivery]\nin_flight = {in_flight}\n",
            peer.url()
        );
    }
    text
}

/// The alert number `n`; every tenth is critical.
fn alert(n: usize, pad: usize) -> String {
    let critical = is_critical(n);
    let (severity, state) =
        if critical { ("CRITICAL", "LOCKED_OUT") } else { ("WARNING", "WARNING") };
    let name = match n % 400 {
        57 | 150 => FORBIDDEN,
        257 | 350 => BREAKING,
        _ => "report.docx",
    };
    let pad = "x".repeat(pad);
    format!(
        r#"{{"n":{n},"id":"i-{n}","severity":"{severity}","state":"{state}","userName":"CORP\\u{n}","nes":["prod"],"files":["/ifs/home/{name}"],"pad":"{pad}"}}"#
    )
}

fn is_critical(n: usize) -> bool {
    n.is_multiple_of(10)
}

fn number(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("{\"n\":")?;
    rest.split_once(',')?.0.parse().ok()
}

/// When each alert came to a sink, as often as it came.
#[derive(Default)]
struct Came(Mutex<BTreeMap<String, BTreeMap<usize, Vec<Instant>>>>);

impl Came {
    fn note(&self, sink: &str, n: usize) {
        let mut came = self.0.lock().unwrap();
        let sink = came.entry(sink.to_owned()).or_default();
        sink.entry(n).or_default().push(Instant::now());
    }

    fn of(&self, sink: &str) -> BTreeMap<usize, Vec<Instant>> {
        self.0.lock().unwrap().get(sink).cloned().unwrap_or_default()
    }
}

/// What the SIEM is in the mood for.
const GOOD: usize = 0;
const THROTTLING: usize = 1;
const REFUSING: usize = 2;

/// Answers of every destination that speaks HTTP.
fn answers(came: &Arc<Came>, mood: &Arc<AtomicUsize>) -> impl Fn(&Request) -> Answer + use<> {
    let (came, mood) = (came.clone(), mood.clone());
    move |request| {
        let sink = request.path.trim_start_matches('/').to_owned();
        let text = request.text();
        let refused = match &*sink {
            "siem" if mood.load(Ordering::SeqCst) == THROTTLING => {
                Some(Answer::new(429, "slow down").header("retry-after", "1"))
            }
            "siem" if mood.load(Ordering::SeqCst) == REFUSING => {
                Some(Answer::new(401, "who are you?"))
            }
            "waf" if text.contains(FORBIDDEN) => Some(Answer::new(403, "blocked: SQL injection")),
            "waf" if text.contains(BREAKING) => Some(Answer::new(500, "internal error")),
            _ => None,
        };
        refused.unwrap_or_else(|| {
            number(&text).into_iter().for_each(|n| came.note(&sink, n));
            Answer::ok(if sink.starts_with("services") { "ok" } else { r#"{"successCount":1}"# })
        })
    }
}

/// What the senders know.
#[derive(Default)]
struct Sent {
    next: AtomicUsize,
    /// Alerts that were acknowledged: when, and by what id.
    accepted: Mutex<BTreeMap<usize, (Instant, String)>>,
    /// Answers of 503.
    turned_away: AtomicUsize,
    /// Posts over TLS that found the certificate bad.
    distrusted: AtomicUsize,
}

impl Sent {
    fn criticals(&self) -> BTreeMap<usize, (Instant, String)> {
        let accepted = self.accepted.lock().unwrap().clone();
        accepted.into_iter().filter(|(n, _)| is_critical(*n)).collect()
    }
}

/// Post an alert until it is acknowledged, as senders do.
async fn post(client: Client, url: String, pad: usize, sent: Arc<Sent>) {
    let n = sent.next.fetch_add(1, Ordering::SeqCst);
    loop {
        match client.post(&url).body(alert(n, pad)).send().await {
            Ok(answer) if answer.status() == 200 => {
                let told: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
                let id = told["events"][0]["id"].as_str().unwrap().to_owned();
                sent.accepted.lock().unwrap().insert(n, (Instant::now(), id));
                return;
            }
            Ok(answer) => {
                assert_eq!(answer.status(), 503, "{answer:?}");
                sent.turned_away.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                assert!(url.starts_with("https"), "{error:?}");
                sent.distrusted.fetch_add(1, Ordering::SeqCst);
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A client that trusts this authority and has no connection yet: a certificate is looked at when one
/// begins.
fn trusting(authority: &Certificate) -> Client {
    let client = Client::builder().no_proxy().tls_certs_only([authority.clone()]);
    client.build().unwrap()
}

/// Alerts by the second, every fiftieth over TLS, until `end`; then few, until told to stop.
async fn send(
    gateway: [String; 2],
    trust: Certificate,
    end: Instant,
    sent: Arc<Sent>,
    stop: &AtomicBool,
) {
    let [webhook, secure] = gateway;
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
    let pad = usize::try_from(400_000 / seconds()).unwrap().min(16_000);
    let (mut senders, mut next) = (JoinSet::new(), Instant::now());
    while !stop.load(Ordering::SeqCst) {
        let attack = Instant::now() < end;
        let tls = attack && sent.next.load(Ordering::SeqCst) % 50 == 25;
        let url = match (attack, tls) {
            (true, true) => format!("{secure}/webhook"),
            (true, false) => format!("{webhook}/webhook"),
            (false, _) => format!("{webhook}/calm"),
        };
        let client = if tls { trusting(&trust) } else { client.clone() };
        senders.spawn(post(client, url, pad, sent.clone()));
        next += if attack { EVERY } else { CALM };
        tokio::time::sleep_until(next).await;
    }
    while let Some(ended) = senders.join_next().await {
        ended.unwrap();
    }
}

/// When a sink could not be reached.
type Outages = BTreeMap<&'static str, (Instant, Instant)>;

/// Everything that goes wrong, in its order.
struct Faults<'a> {
    gateway: &'a Gateway,
    peer: &'a Peer,
    mood: &'a AtomicUsize,
    script: &'a dyn Fn(&Peer),
    disk: Option<&'a Mounted>,
    sent: &'a Sent,
    began: Instant,
}

impl Faults<'_> {
    async fn at(&self, percent: u32) {
        let length = Duration::from_secs(seconds());
        tokio::time::sleep_until(self.began + length * percent / 100).await;
    }

    async fn siem(&self) -> (Instant, Instant) {
        self.at(10).await;
        let since = Instant::now();
        self.mood.store(THROTTLING, Ordering::SeqCst);
        self.at(30).await;
        self.mood.store(REFUSING, Ordering::SeqCst);
        self.at(55).await;
        self.mood.store(GOOD, Ordering::SeqCst);
        (since, Instant::now())
    }

    /// The link's peer, which is another one afterwards.
    async fn link(&self, peer: Peer) -> ((Instant, Instant), Peer) {
        self.at(20).await;
        let (since, port) = (Instant::now(), peer.port());
        peer.stop().await;
        self.at(45).await;
        let peer = Peer::start_at(port).await;
        (self.script)(&peer);
        ((since, Instant::now()), peer)
    }

    /// In the middle: another configuration, and the certificate is renewed.
    async fn reload(&self, config: &str, authority: &Authority) {
        self.at(50).await;
        authority.leaf("localhost").write(&self.gateway.path(""), "cert");
        self.gateway.configure("10-test.toml", config);
        let reloaded = self.gateway.cli(&["reload"]).await;
        assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    }

    /// The disk fills while the log may give up nothing, because two sinks wait for it; for how long
    /// senders were turned away.
    async fn disk(&self) -> Option<Duration> {
        let disk = self.disk?;
        self.at(25).await;
        disk.fill_but(MIN_FREE / 4);
        until("senders are turned away", async || {
            (self.sent.turned_away.load(Ordering::SeqCst) > 0).then_some(())
        })
        .await;
        let since = Instant::now();
        tokio::time::sleep(Duration::from_secs(3)).await;
        disk.make_room();
        Some(since.elapsed())
    }
}

/// Note what is appended to the archive.
async fn follow(path: std::path::PathBuf, came: Arc<Came>) {
    let (mut read, mut text) = (0, String::new());
    loop {
        if let Ok(mut file) = std::fs::File::open(&path) {
            file.seek(SeekFrom::Start(read)).unwrap();
            let mut more = Vec::new();
            read += file.read_to_end(&mut more).unwrap() as u64;
            text += &String::from_utf8(more).unwrap();
            while let Some((line, rest)) = text.split_once('\n') {
                number(line).into_iter().for_each(|n| came.note("archive", n));
                text = rest.to_owned();
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The replies in the open dead letters of the firewall's sink, by event.
async fn dead(gateway: &Gateway) -> BTreeMap<String, u64> {
    let listed = gateway.cli(&["dead", "list", "--json", "--limit", "10000"]).await;
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    let letters = listed["letters"].as_array().unwrap();
    let of = |letter: &Value| {
        assert_eq!(letter["sink"], "waf", "only the firewall refuses: {letter}");
        (letter["id"].as_str().unwrap().to_owned(), letter["reply"]["status"].as_u64().unwrap())
    };
    letters.iter().map(of).collect()
}

/// Critical alerts that `sink` has not.
fn missing(sent: &Sent, came: &Came, sink: &str, dead: &BTreeMap<String, u64>) -> Vec<usize> {
    let came = came.of(sink);
    let criticals = sent.criticals();
    let lacks = |(n, (_, id)): (&usize, &(Instant, String))| {
        let buried = sink == "waf" && dead.contains_key(id);
        (!came.contains_key(n) && !buried).then_some(*n)
    };
    criticals.iter().filter_map(lacks).collect()
}

/// A line of the verdict, and the longest time that a critical alert took.
fn verdict(sink: &str, sent: &Sent, came: &Came, outage: Option<&(Instant, Instant)>) -> Duration {
    let came = came.of(sink);
    let took = |(n, (accepted, _)): (&usize, &(Instant, String))| {
        let arrived = came.get(n)?[0];
        let since = match outage {
            Some((from, to)) if *accepted < *to && arrived >= *from => (*accepted).max(*to),
            _ => *accepted,
        };
        Some(arrived.saturating_duration_since(since))
    };
    let mut times: Vec<Duration> = sent.criticals().iter().filter_map(took).collect();
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64();
    let all: usize = came.values().map(Vec::len).sum();
    println!(
        "{sink:<8} {:>7} {:>7} {:>9} {:>7.3} {:>7.3} {:>7.3}",
        came.len(),
        all - came.len(),
        times.len(),
        at(50),
        at(99),
        at(100)
    );
    *times.last().unwrap()
}

/// The headlines of people's messages: those of single alerts, and the storm's.
fn messages(peer: &Peer) -> (Vec<String>, Vec<String>) {
    let posts = peer.requests().into_iter().filter(|r| r.path.starts_with("/services"));
    let text = |request: Request| request.json()["text"].as_str().unwrap().to_owned();
    posts.map(text).partition(|text| !text.starts_with("Storm: "))
}

/// Incident and state of every alarm so far.
fn alarms(gateway: &Gateway) -> BTreeSet<String> {
    let told = |line: &String| {
        let alarm: Value = serde_json::from_str(line).ok()?;
        Some(format!("{} {}", alarm["incident"].as_str()?, alarm["state"].as_str()?))
    };
    gateway.lines("own.ndjson").iter().filter_map(told).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_day_of_the_attack_every_critical_alert_is_everywhere_within_seconds() {
    let length = Duration::from_secs(seconds());
    let (peer, link) = (Peer::start().await, Peer::start().await);
    let (came, mood) = (Arc::new(Came::default()), Arc::new(AtomicUsize::new(GOOD)));
    let script = |peer: &Peer| peer.answer(answers(&came, &mood));
    script(&peer);
    script(&link);
    let mut gateway = Gateway::prepared(&config([&peer, &link], 4));
    let changed = config([&peer, &link], 5);
    gateway.set_env("KEY", "k");
    let authority = Authority::new("the senders' authority");
    let expires = i64::try_from(seconds()).unwrap() * 35 / 100;
    authority.leaf_with("localhost", valid(-3_600, expires)).write(&gateway.path(""), "cert");
    let disk = Mounted::tmpfs(&gateway.path("data"), (256 << 10) + seconds() * 512);
    if let Some(disk) = &disk {
        gateway.start_by(disk.door());
    }
    gateway.launch().await;

    let (sent, stop, began) = (Arc::new(Sent::default()), AtomicBool::new(false), Instant::now());
    let secure = gateway.secure.replace("127.0.0.1", "localhost");
    let root = Certificate::from_pem(authority.pem.as_bytes()).unwrap();
    let sending =
        send([gateway.webhook.clone(), secure], root, began + length, sent.clone(), &stop);
    let following = tokio::spawn(follow(gateway.path("archive.ndjson"), came.clone()));
    let day = async {
        let faults = Faults {
            gateway: &gateway,
            peer: &peer,
            mood: &mood,
            script: &script,
            disk: disk.as_ref(),
            sent: &sent,
            began,
        };
        let (siem, (link, link_peer), (), full) = tokio::join!(
            faults.siem(),
            faults.link(link),
            faults.reload(&changed, &authority),
            faults.disk()
        );
        faults.at(100).await;
        let told = messages(faults.peer).1.len();
        for sink in SINKS {
            until(&format!("{sink} has every critical alert"), async || {
                let dead = dead(&gateway).await;
                missing(&sent, &came, sink, &dead).is_empty().then_some(())
            })
            .await;
        }
        let recovered = began.elapsed().saturating_sub(length);
        stop.store(true, Ordering::SeqCst);
        (Outages::from([("siem", siem), ("link", link)]), link_peer, full, told, recovered)
    };
    let ((), (outages, _link, full, told_by_then, recovered)) = tokio::join!(sending, day);

    let dead = dead(&gateway).await;
    let criticals = sent.criticals();
    println!(
        "{} alerts acknowledged ({} critical) in {length:?} of attack; 503 {} times, {full:?}; no trust {} times",
        sent.accepted.lock().unwrap().len(),
        criticals.len(),
        sent.turned_away.load(Ordering::SeqCst),
        sent.distrusted.load(Ordering::SeqCst)
    );
    println!("sink      events doubles criticals     p50     p99     max (seconds)");
    for sink in SINKS {
        let longest = verdict(sink, &sent, &came, outages.get(sink));
        let soon = if sink == "waf" { SOON_BEHIND_THE_WAF } else { SOON };
        assert!(longest < soon, "a critical alert took {longest:?} to {sink}");
        assert_eq!(missing(&sent, &came, sink, &dead), [0; 0], "acknowledged, and not at {sink}");
    }
    // What the firewall would not have is in the dead letters, with its word.
    for (n, (_, id)) in &criticals {
        let expected = match n % 400 {
            150 => Some(&403),
            350 => Some(&500),
            _ => None,
        };
        assert_eq!(dead.get(id), expected, "alert {n} behind the firewall");
    }
    println!(
        "the firewall's dead letters: {}; every critical alert was everywhere {recovered:?} after the attack",
        dead.len()
    );

    // People: thirty by themselves, and all others in one message.
    if length > Duration::from_secs(60) {
        tokio::time::sleep_until(began + Duration::from_secs(630)).await;
    }
    let (single, storms) = until("the storm is told", async || {
        let held = gateway
            .metric("siemgate_delivery_held_total", &[("sink", "chat"), ("reason", "storm")]);
        let held = held.await? as usize;
        let (single, storms) = messages(&peer);
        let count = |text: &String| -> usize {
            text.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap()
        };
        (held > 0 && storms.iter().map(count).sum::<usize>() == held).then_some((single, storms))
    })
    .await;
    println!("people: {} messages, {storms:?}", single.len());
    assert_eq!(single.len(), 30, "people are not buried: {single:?}");
    assert!(told_by_then <= 1, "one notice while it lasts");
    // A long attack has a second one, ten minutes later, with what came since.
    assert_eq!(storms.len(), if length > Duration::from_secs(60) { 2 } else { 1 });

    // Alarms, and what the journal says of the certificate.
    let mut expected = vec![
        "parked:siem open",
        "parked:siem cleared",
        "late:link open",
        "late:link cleared",
        "dead_letters:waf open",
    ];
    if disk.is_some() {
        assert!(sent.turned_away.load(Ordering::SeqCst) > 0);
        expected.extend(["disk_full open", "disk_full cleared", "refused:superna/log open"]);
    }
    for alarm in expected {
        let end = format!(":{alarm}");
        until(&format!("the alarm {alarm} has come"), async || {
            alarms(&gateway).iter().any(|told| told.ends_with(&end)).then_some(())
        })
        .await;
    }
    println!("alarms: {}", alarms(&gateway).len());
    let journal = gateway.journal_text();
    assert!(sent.distrusted.load(Ordering::SeqCst) > 0, "nobody saw the certificate expire");
    for said in ["expires in", "which expired"] {
        assert!(journal.contains(said), "the journal does not say that a certificate {said}");
    }
    let text = gateway.metrics().await;
    for sink in SINKS.into_iter().chain(["chat", "own"]) {
        let unaccounted = sample(&text, "siemgate_delivery_unaccounted_events", &[("sink", sink)]);
        assert_eq!(unaccounted, Some(0.0), "the ledger of {sink}");
    }
    following.abort();
    gateway.finish().await;
}
