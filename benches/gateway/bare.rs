//! The bare programs: each does one part of a gateway's work, and nothing else.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use clap::Subcommand;

use super::receive;

/// What a child of the bench is.
#[derive(Subcommand)]
pub enum Role {
    /// Reads a body and answers.
    Handler {
        #[arg(long)]
        port: u16,
    },
    /// Takes what sinks send.
    Receiver {
        #[arg(long)]
        port: u16,
    },
}

impl Role {
    /// Be it until killed.
    pub fn run(self) {
        let served = match self {
            Self::Handler { port } => serve(port, |config| {
                config.default_service(web::to(handler));
            }),
            Self::Receiver { port } => serve(port, receive::routes),
        };
        served.expect("it serves");
    }
}

/// In the same way as the gateway: actix in a runtime of several threads, two workers.
fn serve(port: u16, routes: fn(&mut web::ServiceConfig)) -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async move {
        HttpServer::new(move || {
            App::new().app_data(web::PayloadConfig::new(64 << 20)).configure(routes)
        })
        .workers(2)
        .bind(("127.0.0.1", port))?
        .run()
        .await
    })
}

async fn handler(body: web::Bytes) -> HttpResponse {
    // As long as the gateway's own answer.
    let answer = format!(
        "{{\"accepted\":1,\"duplicates\":0,\"events\":[{{\"id\":\"{:036}\"}}]}}",
        body.len()
    );
    HttpResponse::Ok().content_type("application/json").body(answer)
}

/// Bytes of one synced write of the disk's own figure.
const BLOCK: usize = 4096;
/// Bytes of the file that is written around in.
const FILE: u64 = 64 << 20;

fn preallocated(path: &Path) -> File {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(path);
    let file = file.expect("a file");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE)
        .expect("room on the disk");
    file.sync_all().expect("the disk syncs");
    file
}

/// How long a write of 4 KiB and its fdatasync take, `count` times, sorted.
pub fn syncs(dir: &Path, count: u64) -> Vec<Duration> {
    let path = dir.join("syncs");
    let file = preallocated(&path);
    let block = [7; BLOCK];
    let mut took: Vec<Duration> = (0..count)
        .map(|number| {
            let begun = Instant::now();
            file.write_all_at(&block, number * BLOCK as u64 % FILE).expect("the disk takes it");
            file.sync_data().expect("the disk syncs");
            begun.elapsed()
        })
        .collect();
    let _ = std::fs::remove_file(path);
    took.sort();
    took
}

/// A group-commit loop: what waits is written as one group and synced once. `clients` append
/// `bytes` each, one after the other, `count` in all; a second of that many.
pub fn appends(dir: &Path, clients: usize, bytes: usize, count: u64) -> f64 {
    let path = dir.join("appends");
    let shared = Arc::new(Commits::default());
    let writer = {
        let (shared, path) = (shared.clone(), path.clone());
        std::thread::spawn(move || shared.write(&path, count))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
    let begun = Instant::now();
    runtime.expect("a runtime").block_on(async {
        let each = count.div_ceil(clients as u64);
        let appending = (0..clients as u64).map(|client| {
            let (shared, mine) = (shared.clone(), each.min(count.saturating_sub(client * each)));
            tokio::spawn(async move {
                for _ in 0..mine {
                    shared.append(vec![9; bytes]).await;
                }
            })
        });
        for task in appending.collect::<Vec<_>>() {
            task.await.expect("a client ends well");
        }
    });
    let took = begun.elapsed();
    writer.join().expect("the writer ends well");
    let _ = std::fs::remove_file(path);
    count as f64 / took.as_secs_f64()
}

type Waiting = Vec<(Vec<u8>, tokio::sync::oneshot::Sender<()>)>;

#[derive(Default)]
struct Commits {
    queue: Mutex<Waiting>,
    wake: Condvar,
}

impl Commits {
    async fn append(&self, bytes: Vec<u8>) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.queue.lock().expect("no panic").push((bytes, reply));
        self.wake.notify_one();
        let _ = answer.await;
    }

    fn write(&self, path: &Path, count: u64) {
        let (file, mut offset, mut done, mut group) = (preallocated(path), 0, 0, Vec::new());
        while done < count {
            let mut queue = self.queue.lock().expect("no panic");
            while queue.is_empty() {
                queue = self.wake.wait(queue).expect("no panic");
            }
            let taken = std::mem::take(&mut *queue);
            drop(queue);
            group.clear();
            taken.iter().for_each(|(bytes, _)| group.extend_from_slice(bytes));
            group.resize(group.len().next_multiple_of(BLOCK), 0);
            if offset + group.len() as u64 > FILE {
                offset = 0;
            }
            file.write_all_at(&group, offset).expect("the disk takes it");
            file.sync_data().expect("the disk syncs");
            offset += group.len() as u64;
            done += taken.len() as u64;
            for (_, reply) in taken {
                let _ = reply.send(());
            }
        }
    }
}

/// A bare reqwest loop: `requests` posts of `body`, four at a time. CPU of this program in it, and
/// how long it took.
pub fn posts(to: SocketAddr, body: &[u8], requests: u64) -> (Duration, Duration) {
    const AT_ONCE: u64 = 4;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("http://{to}/post");
    let (body, before, begun) =
        (bytes::Bytes::copy_from_slice(body), super::process::cpu_of("self"), Instant::now());
    runtime.expect("a runtime").block_on(async {
        let posting = (0..AT_ONCE).map(|task| {
            let (client, url, body) = (client.clone(), url.clone(), body.clone());
            let mine = requests / AT_ONCE + u64::from(task < requests % AT_ONCE);
            tokio::spawn(async move {
                for _ in 0..mine {
                    let answer = client.post(&url).body(body.clone()).send().await;
                    let answer = answer.expect("the receiver answers");
                    assert!(answer.status().is_success(), "{answer:?}");
                    answer.bytes().await.expect("a whole answer");
                }
            })
        });
        for task in posting.collect::<Vec<_>>() {
            task.await.expect("a poster ends well");
        }
    });
    (super::process::cpu_of("self") - before, begun.elapsed())
}
