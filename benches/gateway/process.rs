//! The programs that are measured, as children: what they cost, and their end.

use std::io::BufReader;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(300);
/// `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// A child, killed when it is dropped.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

/// An address that nobody listens at.
pub fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// Look until something is there.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Process {
    /// A bare program of this bench that listens.
    pub fn bare(role: &str, arguments: &[&str]) -> Self {
        let address = free();
        let own = std::env::current_exe().expect("this program");
        let port = address.port().to_string();
        let mut command = Command::new(own);
        command.arg(role).args(["--port", &port]).args(arguments).stdout(Stdio::null());
        Self::spawned(command, address)
    }

    fn spawned(mut command: Command, address: SocketAddr) -> Self {
        let child = command.spawn().expect("the child starts");
        let process = Self { child, address };
        until("it listens", || TcpStream::connect(address).ok());
        process
    }

    /// User and system time so far.
    pub fn cpu(&self) -> Duration {
        cpu_of(&self.child.id().to_string())
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    }

    /// Make it read its configuration again.
    pub fn hang_up(&self) {
        let _ = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of this program or another.
pub fn cpu_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks =
        rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok());
    TICK * ticks.sum::<u32>()
}

/// A gateway in a folder of its own.
pub struct Gateway {
    /// The program.
    pub process: Process,
    /// From its start to its first "ready".
    pub ready: Duration,
    admin: SocketAddr,
}

/// The folder of a gateway: kept over restarts, removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder `name` below `dir`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("config.d")).expect("a folder");
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Start a gateway on `config`, with the log in this folder.
    pub fn start(&self, config: &str) -> Gateway {
        let (address, admin) = (free(), free());
        let dir = self.0.display();
        let base = format!(
            "[server]\nlisten = \"{address}\"\nadmin = \"{admin}\"\n[log]\ndir = \"{dir}/log\"\nmin_free = \"64MiB\"\nmax_bytes = \"64GiB\"\n"
        );
        std::fs::write(self.0.join("config.d/00.toml"), base).expect("a configuration");
        std::fs::write(self.0.join("config.d/10.toml"), config).expect("a configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_siemgate"));
        command.arg("--config").arg(self.0.join("config.d")).arg("run");
        command.env("BENCH_KEY", "bench").env("SIEMGATE_LOG_LEVEL", "error").stdout(Stdio::null());
        let begun = Instant::now();
        let child = command.spawn().expect("siemgate starts");
        let mut process = Process { child, address };
        let ready = until("the gateway is ready", || {
            let ended = process.child.try_wait().expect("a child");
            assert!(ended.is_none(), "siemgate ended: {ended:?}");
            get(admin, "/readyz")
                .filter(|answer| answer.starts_with("HTTP/1.1 200"))
                .map(|_| begun.elapsed())
        });
        Gateway { process, ready, admin }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Gateway {
    /// The sum of the samples of `metric` whose labels contain `labels`.
    pub fn metric(&self, metric: &str, labels: &str) -> f64 {
        let text = get(self.admin, "/metrics").unwrap_or_default();
        let samples = text.lines().filter(|line| line.starts_with(metric) && line.contains(labels));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Which configuration is in force.
    pub fn config(&self) -> String {
        let text = get(self.admin, "/metrics").unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("siemgate_config_info"));
        line.unwrap_or_default().to_owned()
    }

    /// Wait until nothing waits for `sink`.
    pub fn empty(&self, sink: &str) {
        let labels = format!("sink=\"{sink}\"");
        until("the backlog is drained", || {
            (self.metric("siemgate_delivery_lag_events", &labels) == 0.0).then_some(())
        });
    }

    /// Wait until `sink` has tried and failed.
    pub fn tried(&self, sink: &str) {
        let labels = format!("cause=\"down\",sink=\"{sink}\"");
        until("a delivery was tried", || {
            (self.metric("siemgate_delivery_attempts_total", &labels) > 0.0).then_some(())
        });
    }

    /// Wait until `sink` has delivered `count` events.
    pub fn delivered(&self, sink: &str, count: u64) {
        let labels = format!("outcome=\"delivered\",sink=\"{sink}\"");
        until("all is delivered", || {
            (self.metric("siemgate_delivery_events_total", &labels) as u64 >= count).then_some(())
        });
    }
}

/// The whole answer to a GET, if there is one.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    BufReader::new(stream).read_to_end(&mut answer).ok()?;
    String::from_utf8(answer).ok()
}
