//! A gateway under test: the real binary with a folder of its own, used only through its doors.
//!
//! Guarantees: every port is chosen by the system and read from the journal; nothing sleeps, every
//! wait has a condition and a generous end; a test that does not end its gateway with `finish`
//! (which checks the ledger and a clean exit) fails; no process outlives its test.

// A tool box: not every test uses every tool.
#![allow(dead_code)]

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long any condition may take: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every test's gateway has in common; `{{dir}}` is its folder.
const BASE: &str = r#"
[server]
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
[log]
dir = "{{dir}}/data/log"
min_free = "1MiB"
segment_bytes = "16MiB"
[journal]
format = "json"
"#;

/// Wait until `look` finds something; fails the test, naming `what`, when it never does.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An answer of one of the doors.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Told {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The ids of the events, asserting that they were accepted.
    pub fn ids(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{self:?}");
        let told = self.json();
        let events = told["events"].as_array().unwrap();
        events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Printed {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Printed {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The command `siemgate`, with an environment that cannot disturb it.
pub fn siemgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siemgate"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// One gateway: its folder, and its process while it runs.
pub struct Gateway {
    folder: TempDir,
    config: PathBuf,
    child: Option<Child>,
    client: Client,
    env: Vec<(String, String)>,
    held: Option<TcpListener>,
    limit: Option<u64>,
    inside: Vec<String>,
    /// `http://…` of the webhook listener, while it runs.
    pub webhook: String,
    /// `https://…` of the first webhook listener with TLS, if there is one.
    pub secure: String,
    /// `http://…` of the admin listener, while it runs; `https://…` with `[server.admin_tls]`.
    pub admin: String,
}

impl Gateway {
    /// A folder with a configuration; nothing is started.
    pub fn prepared(config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        // Nothing here speaks TLS, but a client is not built without; set by whoever comes first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Whether certificates are right is for `ingress_tls.rs`.
        let client =
            Client::builder().no_proxy().timeout(PATIENCE).tls_danger_accept_invalid_certs(true);
        let client = client.build().unwrap();
        let gateway = Self {
            config: folder.path().join("config.d"),
            folder,
            child: None,
            client,
            env: Vec::new(),
            held: None,
            limit: None,
            inside: Vec::new(),
            webhook: String::new(),
            secure: String::new(),
            admin: String::new(),
        };
        std::fs::create_dir(&gateway.config).unwrap();
        gateway.configure("00-base.toml", BASE);
        gateway.configure("10-test.toml", config);
        gateway
    }

    /// A running gateway.
    pub async fn start(config: &str) -> Self {
        let mut gateway = Self::prepared(config);
        gateway.launch().await;
        gateway
    }

    /// Use another configuration folder.
    pub fn use_config(&mut self, config: PathBuf) {
        self.config = config;
    }

    /// Set an environment variable for everything that is started from here.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.into(), value.into()));
    }

    /// Pass `listener` on to every process from here on, as a socket unit does (`LISTEN_FDS`).
    pub fn hold(&mut self, listener: TcpListener) {
        self.held = Some(listener);
    }

    /// Let no file of the process grow beyond so many KiB: its disk fails.
    pub fn limit_files(&mut self, kib: u64) {
        self.limit = Some(kib);
    }

    /// Let every process from here on be started by `program`, which ends by running its arguments.
    pub fn start_by(&mut self, program: Vec<String>) {
        self.inside = program;
    }

    /// Write a file of the configuration.
    pub fn configure(&self, file: &str, text: &str) {
        let text = text.replace("{{dir}}", self.folder.path().to_str().unwrap());
        std::fs::write(self.config.join(file), text).unwrap();
    }

    /// A path in the gateway's folder, which is also its working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = siemgate();
        command.arg("--config").arg(&self.config).args(arguments).current_dir(self.folder.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The command `run`, by way of a shell that sets up what a process inherits.
    fn run_command(&self) -> Command {
        let run = self.command(&["run"]);
        let (mut script, mut shell) = (String::new(), Command::new("/bin/sh"));
        shell.env_clear().envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(kib) = self.limit {
            // POSIX counts in halves of a KiB.
            script.push_str(&format!("trap '' XFSZ; ulimit -f {}; ", 2 * kib));
        }
        if let Some(listener) = &self.held {
            script.push_str("exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; ");
            shell.stdin(OwnedFd::from(listener.try_clone().unwrap()));
        } else {
            shell.stdin(Stdio::null());
        }
        shell.arg("-c").arg(format!("{script}exec \"$@\"")).arg("sh");
        shell
            .args(&self.inside)
            .arg(run.get_program())
            .args(run.get_args())
            .current_dir(self.folder.path());
        shell
    }

    // ---- The process ---------------------------------------------------------------------------

    /// Start the process and wait until it is ready.
    pub async fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let before = self.journal().len();
        let open = |name: &str| -> File {
            OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap()
        };
        let mut command = self.run_command();
        command.stderr(open("journal")).stdout(open("stdout"));
        self.child = Some(command.spawn().unwrap());
        let ready = until("the gateway is ready", async || {
            if let Some(ended) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("it ended with {ended} instead of starting: {}", self.journal_text());
            }
            self.journal().into_iter().skip(before).find(|line| line["message"] == "ready")
        });
        let ready = ready.await;
        let url = |scheme: &str, list: &str| {
            let list = ready[list].as_str().unwrap().trim_matches(['[', ']']);
            if list.is_empty() { String::new() } else { format!("{scheme}://{list}") }
        };
        self.webhook = url("http", "listen");
        self.secure = url("https", "listen_tls");
        let admin = ready["admin"].as_str().unwrap();
        let scheme = if ready["admin_tls"] == true { "https" } else { "http" };
        self.admin = format!("{scheme}://{admin}");
    }

    /// Start a process that is expected to end by itself, and what it told.
    pub async fn refused(&self) -> Printed {
        let mut command = self.run_command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let pid = Pid::from_child(&child);
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        if ended.is_err() {
            let _ = kill_process(pid, Signal::KILL);
        }
        ended.expect("it runs, and was expected to end").unwrap().into()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// The process's number, while it runs.
    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// As a power cut for the process: SIGKILL.
    pub fn kill(&mut self) {
        kill_process(self.pid(), Signal::KILL).unwrap();
        self.child.take().unwrap().wait().unwrap();
    }

    /// SIGTERM; the gateway begins to drain.
    pub fn ask_to_stop(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Wait until the process has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = until("the gateway has ended", async || child.try_wait().unwrap()).await;
        self.child = None;
        status
    }

    /// SIGTERM, and wait for a clean end; it can be launched again.
    pub async fn stop(&mut self) {
        self.balanced().await;
        self.ask_to_stop();
        let status = self.ended().await;
        assert!(status.success(), "ended with {status}: {}", self.journal_text());
    }

    /// The end of every test: the books balance, and the exit is clean.
    pub async fn finish(mut self) {
        if self.child.is_some() {
            self.stop().await;
        }
    }

    /// The ledger of every sink balances.
    async fn balanced(&self) {
        until("every ledger balances", async || {
            let text = self.metrics().await;
            let mut gauges = text
                .lines()
                .filter(|line| line.starts_with("siemgate_delivery_unaccounted_events{"));
            gauges.all(|line| line.ends_with(" 0")).then_some(())
        })
        .await;
    }

    /// Run another command of the binary against this gateway.
    pub async fn cli(&self, arguments: &[&str]) -> Printed {
        let mut command = self.command(arguments);
        let tls = if self.webhook.is_empty() { "LISTEN" } else { "TLS__LISTEN" };
        for (key, url) in [(tls, &self.secure), ("LISTEN", &self.webhook), ("ADMIN", &self.admin)] {
            if let Some((_, address)) = url.split_once("://") {
                command.env(format!("SIEMGATE_SERVER__{key}"), address);
            }
        }
        // On a thread of its own, so that a peer in this test's runtime can answer meanwhile.
        tokio::task::spawn_blocking(move || command.output().unwrap().into()).await.unwrap()
    }

    // ---- The doors -----------------------------------------------------------------------------

    /// A request to the webhook listener, to be completed and given to `told`.
    pub fn request(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.webhook))
    }

    /// POST `body` to `path`, with no Content-Type and no other header.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Told {
        told(self.request(path).body(body)).await
    }

    /// GET from the admin listener.
    pub async fn get(&self, path: &str) -> Told {
        told(self.client.get(format!("{}{path}", self.admin))).await
    }

    /// A request over the admin socket, to be completed and given to `told`.
    pub fn over_socket(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        let client = Client::builder().timeout(PATIENCE).unix_socket(self.path("data/admin.sock"));
        client.build().unwrap().request(method, format!("http://localhost{path}"))
    }

    /// POST over the admin socket.
    pub async fn steer(&self, path: &str) -> Told {
        told(self.over_socket(reqwest::Method::POST, path)).await
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        self.get("/metrics").await.text
    }

    /// The value of the metric `name` with (at least) these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let text = self.metrics().await;
        sample(&text, name, labels)
    }

    /// Wait until the metric has exactly this value.
    pub async fn until_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name} {labels:?} is {value}");
        until(&what, async || (self.metric(name, labels).await == Some(value)).then_some(())).await;
    }

    /// Wait until the metric is above this value.
    pub async fn until_metric_above(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name} {labels:?} is above {value}");
        until(&what, async || (self.metric(name, labels).await > Some(value)).then_some(())).await;
    }

    /// Wait until the sink is in this state.
    pub async fn until_state(&self, sink: &str, state: &str) {
        self.until_metric("siemgate_delivery_state", &[("sink", sink), ("state", state)], 1.0)
            .await;
    }

    /// How many events ended so for the sink, since the process started.
    pub async fn settled(&self, sink: &str, outcome: &str) -> u64 {
        let labels = [("sink", sink), ("outcome", outcome)];
        self.metric("siemgate_delivery_events_total", &labels).await.unwrap() as u64
    }

    /// Wait until so many events ended so for the sink.
    pub async fn until_settled(&self, sink: &str, outcome: &str, count: u64) {
        let labels = [("sink", sink), ("outcome", outcome)];
        self.until_metric("siemgate_delivery_events_total", &labels, count as f64).await;
    }

    // ---- What it leaves behind -----------------------------------------------------------------

    /// Everything on standard error, over all starts.
    pub fn journal_text(&self) -> String {
        std::fs::read_to_string(self.path("journal")).unwrap_or_default()
    }

    /// The complete lines of the journal.
    pub fn journal(&self) -> Vec<Value> {
        self.journal_text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The journal's lines with this message, of this event and sink.
    pub fn told_of(&self, message: &str, sink: &str, id: &str) -> Vec<Value> {
        let is_it =
            |line: &Value| line["message"] == message && line["sink"] == sink && line["id"] == id;
        self.journal().into_iter().filter(is_it).collect()
    }

    /// The lines of a file below the gateway's folder; none when it does not exist.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            let journal = self.journal_text();
            let from = journal.len().saturating_sub(6_000);
            eprintln!("the journal ends with: {}", &journal[journal.ceil_char_boundary(from)..]);
        } else {
            panic!("the test did not end its gateway with `finish`");
        }
    }
}

/// Send `request` and read the answer.
pub async fn told(request: RequestBuilder) -> Told {
    let response = request.send().await.unwrap();
    Told {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}

/// The value of a sample in Prometheus' text form.
pub fn sample(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    let line = text.lines().find(|line| {
        let Some(rest) = line.strip_prefix(name) else { return false };
        rest.starts_with(['{', ' ']) && wanted.iter().all(|label| rest.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

/// A body from `tests/fixtures`.
pub fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::read(folder.join(name)).unwrap()
}
