//! Real receivers: what syslog-ng and rsyslog make of what the gateway sends, over UDP, TCP with
//! both framings and TLS, and what is left when they are restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::gateway::{Gateway, until};
use super::products::{Process, free_port, have};
use super::proofs::proved;

/// A running receiver with a port for each way, and the file of what it read.
struct Server {
    name: &'static str,
    dir: TempDir,
    /// By what stands in the file's `way`.
    ports: BTreeMap<&'static str, u16>,
    process: Vec<Process>,
}

const WAYS: [&str; 4] = ["udp", "octet", "lf", "tls"];

impl Server {
    /// The receivers that can be had.
    async fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for name in ["syslog-ng", "rsyslog"] {
            let there = match name {
                "syslog-ng" => have(syslog_ng(), "syslog-ng-core"),
                _ => have(rsyslog().0.to_str().unwrap(), "rsyslog (tests/setup.sh unpacks it)"),
            };
            if there {
                let ports = WAYS.into_iter().map(|way| (way, free_port())).collect();
                let dir = tempfile::tempdir().unwrap();
                certificate(dir.path());
                let mut server = Self { name, dir, ports, process: Vec::new() };
                server.start().await;
                all.push(server);
            }
        }
        all
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    async fn start(&mut self) {
        match self.name {
            "syslog-ng" => self.start_syslog_ng(),
            _ => self.start_rsyslog(),
        }
        for port in WAYS[1..].iter().map(|way| self.ports[way]) {
            until(&format!("{} listens", self.name), async || {
                std::net::TcpStream::connect(("127.0.0.1", port)).ok()
            })
            .await;
        }
    }

    /// End it, and wait until it has ended.
    async fn signal(&mut self, signal: Signal) {
        for process in &mut self.process {
            kill_process(Pid::from_child(&process.0), signal).unwrap();
        }
        until("the receiver has ended", async || {
            let mut ended = self.process.iter_mut().map(|it| it.0.try_wait().unwrap().is_some());
            ended.all(|ended| ended).then_some(())
        })
        .await;
        self.process.clear();
    }

    fn run(&mut self, command: &mut Command) {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process.push(Process(command.spawn().unwrap()));
    }

    fn start_syslog_ng(&mut self) {
        let port = |way: &str| format!("ip(\"127.0.0.1\") port({})", self.ports[way]);
        let tls = format!(
            "tls(key-file(\"{}\") cert-file(\"{}\") peer-verify(optional-untrusted))",
            self.path("key.pem"),
            self.path("cert.pem")
        );
        let config = format!(
            r#"@version: 3.38
options {{ keep-hostname(yes); use-dns(no); log-msg-size(262144); stats-freq(0); }};
source udp {{ syslog({udp} transport("udp")); }};
source octet {{ syslog({octet} transport("tcp")); }};
source lf {{ network({lf} transport("tcp") flags(syslog-protocol)); }};
source tls {{ syslog({tls_port} transport("tls") {tls}); }};
destination out {{ file("{out}" template("$(format-json way=\"$SOURCE\" pri=\"$PRI\" time=\"$ISODATE\" host=\"$HOST\" app=\"$PROGRAM\" msgid=\"$MSGID\" data=\"${{.SDATA.origin@32473.note}}\" msg=\"$MSG\")\n")); }};
log {{ source(udp); source(octet); source(lf); source(tls); destination(out); flags(flow-control); }};
"#,
            udp = port("udp"),
            octet = port("octet"),
            lf = port("lf"),
            tls_port = port("tls"),
            out = self.path("out"),
        );
        std::fs::write(self.path("conf"), config).unwrap();
        let mut command = Command::new(syslog_ng());
        command.args(["-F", "--no-caps", "-f", &self.path("conf"), "-R", &self.path("persist")]);
        command.args(["-p", &self.path("pid"), "-c", &self.path("ctl")]);
        self.run(&mut command);
    }

    /// Its TCP input speaks TLS or not, so there are two of them.
    fn start_rsyslog(&mut self) {
        let (program, modules) = rsyslog();
        for (name, ways) in [("plain", &WAYS[..3]), ("tls", &WAYS[3..])] {
            let mut inputs = String::new();
            for way in ways {
                let (kind, port) = (if *way == "udp" { "imudp" } else { "imtcp" }, self.ports[way]);
                inputs += &format!(
                    "input(type=\"{kind}\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"{way}\")\n"
                );
                inputs += &format!(
                    "template(name=\"{way}\" type=\"list\" option.jsonf=\"on\") {{\n  constant(outname=\"way\" value=\"{way}\" format=\"jsonf\")\n"
                );
                for (key, property) in [
                    ("pri", "pri"),
                    ("host", "hostname"),
                    ("app", "app-name"),
                    ("msgid", "msgid"),
                    ("sd", "structured-data"),
                    ("msg", "msg"),
                ] {
                    inputs += &format!(
                        "  property(outname=\"{key}\" name=\"{property}\" format=\"jsonf\")\n"
                    );
                }
                inputs += &format!(
                    "}}\nruleset(name=\"{way}\") {{ action(type=\"omfile\" file=\"{}\" template=\"{way}\") }}\n",
                    self.path("out")
                );
            }
            let tls = match name {
                "tls" => {
                    "streamDriver.name=\"ossl\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\""
                }
                _ => "",
            };
            let certificates = format!(
                "defaultNetstreamDriverCAFile=\"{}\" defaultNetstreamDriverCertFile=\"{}\" defaultNetstreamDriverKeyFile=\"{}\"",
                self.path("ca.pem"),
                self.path("cert.pem"),
                self.path("key.pem")
            );
            let config = format!(
                "global(workDirectory=\"{}\" maxMessageSize=\"256k\" net.enableDNS=\"off\" {})\nmodule(load=\"imudp\")\nmodule(load=\"imtcp\" {tls})\n{inputs}",
                self.path(""),
                if name == "tls" { &certificates } else { "" },
            );
            let file = self.path(&format!("{name}.conf"));
            std::fs::write(&file, config).unwrap();
            let mut command = Command::new(&program);
            command.args(["-n", "-i", "NONE", "-f", &file, "-M"]).arg(&modules);
            self.run(&mut command);
        }
    }

    /// Every message it has written down.
    fn read(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("out")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect()
    }

    /// A sink for a way to it, and its name.
    fn sink(&self, way: &str, settings: &str) -> (String, String) {
        let (scheme, more) = match way {
            "udp" => ("udp", "max_bytes = \"60KiB\"".to_owned()),
            "tls" => {
                ("tls", format!("ca_file = \"{}\"\nmax_bytes = \"200KiB\"", self.path("ca.pem")))
            }
            framing => ("tcp", format!("framing = \"{framing}\"\nmax_bytes = \"200KiB\"")),
        };
        let (name, port) = (format!("{}-{way}", self.name), self.ports[way]);
        let text = format!(
            "[sinks.{name}]\ntype = \"syslog\"\naddress = \"{scheme}://127.0.0.1:{port}\"\n{more}\n{settings}\n"
        );
        (name, text)
    }
}

/// Not on everybody's path.
fn syslog_ng() -> &'static str {
    if Path::new("/usr/sbin/syslog-ng").exists() { "/usr/sbin/syslog-ng" } else { "syslog-ng" }
}

/// The unpacked rsyslogd and the folder of its modules; the system's where that is not there.
fn rsyslog() -> (PathBuf, PathBuf) {
    let unpacked = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("rsyslog");
    let root = if unpacked.exists() { unpacked } else { "/".into() };
    let folders = std::fs::read_dir(root.join("usr/lib")).into_iter().flatten();
    let modules = folders.map(|entry| entry.unwrap().path().join("rsyslog"));
    let modules = modules.into_iter().find(|folder| folder.join("imtcp.so").exists());
    (root.join("usr/sbin/rsyslogd"), modules.unwrap_or_default())
}

/// A certificate for this machine, and that of its authority.
fn certificate(dir: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(authority, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join("cert.pem"), leaf.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

/// A gateway with sinks for every way to every server.
async fn gateway(servers: &[Server], settings: &str) -> Gateway {
    let ways = servers.iter().flat_map(|server| WAYS.map(|way| server.sink(way, settings)));
    let (names, sinks): (Vec<_>, Vec<_>) = ways.unzip();
    let source = "[sources.superna]\ntype = \"superna\"\npath = \"/webhook\"\n";
    let route = format!("[routes.all]\nsinks = {:?}\n", names);
    Gateway::start(&[source.to_owned(), route, sinks.concat()].concat()).await
}

/// What every way of every server has of one event.
async fn posted(gateway: &Gateway, servers: &[Server], body: &Value) -> Vec<(String, Value)> {
    let told = gateway.post("/webhook?wait=30s", body.to_string()).await;
    assert_eq!(told.json()["settled"], true, "{told:?}");
    let mut all = Vec::new();
    for server in servers {
        let read = until(&format!("{} has it by every way", server.name), async || {
            Some(server.read()).filter(|read| read.len() >= WAYS.len())
        })
        .await;
        let ways: BTreeSet<_> = read.iter().map(|it| it["way"].as_str().unwrap()).collect();
        assert_eq!(ways, BTreeSet::from(WAYS), "one message by every way: {read:?}");
        assert_eq!(read.len(), WAYS.len(), "no more than one: {read:?}");
        for message in read {
            all.push((format!("{} {}", server.name, message["way"]), message));
        }
    }
    all
}

/// The keys and values of a CEF line, by the rules of its standard.
fn cef(line: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let chars: Vec<char> = line.chars().collect();
    let escaped = |at: usize| chars[..at].iter().rev().take_while(|c| **c == '\\').count() % 2 == 1;
    let bars: Vec<usize> =
        (0..chars.len()).filter(|&at| chars[at] == '|' && !escaped(at)).collect();
    let header = line.chars().take(bars[6]).collect::<String>();
    let start = bars[6] + 1;
    let equals: Vec<usize> =
        (start..chars.len()).filter(|&at| chars[at] == '=' && !escaped(at)).collect();
    let key = |equals: usize| {
        (start..equals).rev().find(|&at| chars[at] == ' ').map_or(start, |space| space + 1)
    };
    let mut pairs = BTreeMap::new();
    for (index, &at) in equals.iter().enumerate() {
        let end = equals.get(index + 1).map_or(chars.len(), |&next| key(next) - 1);
        let raw: String = chars[at + 1..end].iter().collect();
        let value = raw.replace("\\\\", "\u{1}").replace("\\n", "\n").replace("\\r", "\r");
        let value = value.replace("\\=", "=").replace('\u{1}', "\\");
        let name = chars[key(at)..at].iter().collect::<String>();
        assert!(pairs.insert(name, value).is_none(), "a key comes twice: {line}");
    }
    (header.split('|').map(str::to_owned).collect(), pairs)
}

/// `text` as it may arrive: no tabs, and no more bytes than the key takes.
fn arriving(text: &str, most: usize) -> String {
    let mut text = text.replace('\t', " ");
    while text.len() > most {
        text.pop();
    }
    text.trim().to_owned()
}

#[tokio::test]
async fn a_cef_line_of_the_worst_values_is_one_message_with_the_right_fields() {
    let servers = Server::all().await;
    if servers.is_empty() {
        return;
    }
    let odd = "a|b=c\\d\r\ne\tf\"g]h \u{fc}\u{6f22}\u{1f980} suser=root act=none ^|10|";
    let long = |first: &str| -> String {
        let text = format!("{first}{odd}");
        let rest = 4_000 - text.chars().count();
        text + &"x\u{e4}".repeat(rest / 2) + &"=".repeat(rest % 2)
    };
    let (user, incident, file, share, cluster) =
        (long("CORP\\"), long("id"), long("/ifs/"), long("share"), long("nas"));
    let link = long("https://dse.example/?q=");
    let body = json!({
        "id": incident, "severity": "CRITICAL", "state": long("state"), "userName": user,
        "clientIPs": ["10.1.2.3", "2001:db8::1", long("host")], "nes": [cluster, long("other")],
        "shares": [share, long("second")], "files": [file, long("last")], "protocol": long("SMB"),
        "url": link, "detected": 1_764_572_400_000i64, "numFiles": 2,
    });
    let gateway = gateway(&servers, "format = \"cef\"").await;
    for (way, message) in posted(&gateway, &servers, &body).await {
        let line = message["msg"].as_str().unwrap();
        let (header, pairs) = cef(line);
        assert_eq!(header[..3], ["CEF:0", "Superna", "Data Security Edition"], "{way}");
        assert_eq!(header[6], "10", "{way}");
        assert_eq!(message["pri"], "130", "{way}");
        for (key, text, most) in [
            ("suser", &user, 1_023),
            ("shost", &long("host"), 1_023),
            ("dhost", &cluster, 1_023),
            ("filePath", &file, 1_023),
            ("cs1", &share, 4_000),
            ("cs2", &incident, 4_000),
            ("app", &long("SMB"), 31),
            ("request", &link, 1_023),
        ] {
            assert_eq!(pairs.get(key), Some(&arriving(text, most)), "{way} {key}");
        }
        assert_eq!(pairs["src"], "10.1.2.3", "{way}");
        assert_eq!(pairs["c6a2"], "2001:db8::1", "{way}");
        assert_eq!((&*pairs["start"], &*pairs["cn1"]), ("1764572400000", "2"), "{way}");
        let known = [
            "rt",
            "start",
            "externalId",
            "cat",
            "act",
            "suser",
            "src",
            "c6a2",
            "c6a2Label",
            "shost",
            "dhost",
            "app",
            "cn1",
            "cn1Label",
            "fname",
            "filePath",
            "request",
            "cs1",
            "cs1Label",
            "cs2",
            "cs2Label",
            "cs3",
            "cs3Label",
            "cs4",
            "cs4Label",
            "cs5",
            "cs5Label",
            "flexString1",
            "flexString1Label",
            "msg",
        ];
        let forged: Vec<_> = pairs.keys().filter(|key| !known.contains(&key.as_str())).collect();
        assert!(forged.is_empty(), "{way}: {forged:?}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn headers_are_understood() {
    let servers = Server::all().await;
    if servers.is_empty() {
        return;
    }
    let settings = r#"hostname = "gate.example"
app_name = "superna-gate"
facility = "audit"
structured_data = { "origin@32473" = { note = "a\"b]c\\d" } }"#;
    let gateway = gateway(&servers, settings).await;
    let body = json!({ "severity": "WARNING", "state": "WARNING", "userName": "CORP\\a" });
    for (way, message) in posted(&gateway, &servers, &body).await {
        assert_eq!(message["pri"], "108", "{way}: audit and warning");
        assert_eq!(message["host"], "gate.example", "{way}");
        assert_eq!(message["app"], "superna-gate", "{way}");
        assert_eq!(message["msgid"], "ransomware.warning", "{way}");
        assert_eq!(
            serde_json::from_str::<Value>(message["msg"].as_str().unwrap()).unwrap(),
            body,
            "{way}"
        );
        // syslog-ng reads the escapes, rsyslog shows them.
        match message.get("data") {
            Some(data) => assert_eq!(data, "a\"b]c\\d", "{way}"),
            None => assert_eq!(message["sd"], r#"[origin@32473 note="a\"b\]c\\d"]"#, "{way}"),
        }
    }
    for server in &servers {
        match server.name {
            "syslog-ng" => proved("syslog", "syslog-ng"),
            _ => proved("syslog", "rsyslog"),
        }
    }
    gateway.finish().await;
}

#[tokio::test]
async fn nothing_is_lost_over_tls_when_the_receiver_is_restarted_twice() {
    const EVENTS: usize = 10_000;
    for mut server in Server::all().await {
        let (name, section) = server.sink("tls", "delivery = { rate = \"2500/s\" }");
        let gateway = Gateway::start(&format!(
            "[sources.s]\ntype = \"json\"\n[routes.all]\nsinks = \"{name}\"\n{section}"
        ))
        .await;
        for chunk in 0..EVENTS / 1_000 {
            let lines = (0..1_000).map(|index| format!("{{\"n\":{}}}\n", chunk * 1_000 + index));
            assert_eq!(gateway.post("/webhook/s", lines.collect::<String>()).await.status, 200);
        }
        for (least, signal) in [(EVENTS / 4, Signal::TERM), (EVENTS / 2, Signal::KILL)] {
            until("the receiver has a part", async || (server.read().len() >= least).then_some(()))
                .await;
            assert!(server.read().len() < EVENTS, "too late for a restart");
            server.signal(signal).await;
            server.start().await;
        }
        let numbers = |read: Vec<Value>| -> Vec<u64> {
            let text = |it: &Value| it["msg"].as_str().unwrap().to_owned();
            let number =
                |it: &Value| serde_json::from_str::<Value>(&text(it)).unwrap()["n"].as_u64();
            read.iter().filter_map(number).collect()
        };
        let came = until("every event has come", async || {
            let came = numbers(server.read());
            let distinct: BTreeSet<u64> = came.iter().copied().collect();
            (distinct.len() == EVENTS).then_some(came)
        })
        .await;
        // What the guard sent again is told with the next event.
        assert_eq!(
            gateway.post("/webhook/s?wait=30s", "{\"last\":true}").await.json()["settled"],
            true
        );
        let resent: u64 = gateway.journal().iter().filter_map(|line| line["resent"].as_u64()).sum();
        let doubles = (came.len() - EVENTS) as u64;
        eprintln!("{}: {doubles} doubles, {resent} sent again", server.name);
        assert!(resent > 0 && doubles <= resent, "{doubles} doubles, {resent} told");
        gateway.until_settled(&name, "delivered", EVENTS as u64 + 1).await;
        gateway.finish().await;
    }
}
