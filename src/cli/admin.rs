//! Asking the running gateway: over its Unix socket, else at its admin listener with the token.
//!
//! Guarantees: a configuration that could not be used is no obstacle as long as it says where the
//! socket is; the gateway runs with the one before.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use reqwest::{Client, Method};
use serde_json::Value;

use super::own::{builder, client};
use super::{Exit, failed, tell_problems};
use crate::app::{Plan, Whereabouts};
use crate::core::config::Problems;

/// Names the socket whatever the configuration says.
const SOCKET: &str = "SIEMGATE_SOCKET";

/// The admin side of a gateway.
pub(super) struct Admin {
    doors: Vec<Door>,
}

#[allow(clippy::disallowed_methods)] // no value of the configuration, but a way without one
fn named_socket() -> Option<PathBuf> {
    std::env::var_os(SOCKET).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// One way to it.
struct Door {
    /// For people: a path or an address.
    name: String,
    base: String,
    token: Option<String>,
    client: Client,
}

impl Door {
    fn socket(path: PathBuf) -> Result<Self, Exit> {
        let (name, base) = (path.display().to_string(), "http://localhost".to_owned());
        let client = builder().tls_certs_only([]).unix_socket(path).build().map_err(failed)?;
        Ok(Self { name, base, token: None, client })
    }
}

impl Admin {
    /// That of the gateway which runs with this configuration.
    pub fn of(config: &Path) -> Result<Self, Exit> {
        if let Some(named) = named_socket() {
            return Ok(Self { doors: vec![Door::socket(named)?] });
        }
        let plan = match Plan::read(config) {
            Ok(plan) => plan,
            Err(problems) => return Self::despite(config, &problems),
        };
        let mut doors = Vec::new();
        if let Some(path) = plan.admin_socket() {
            doors.push(Door::socket(path)?);
        }
        let own = plan.admin_tls.as_ref().map(|tls| &*tls.shown);
        let scheme = if own.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", plan.server.admin);
        let token = plan.server.admin_token.as_ref().and_then(|token| token.first());
        let token = token.map(|token| token.expose().to_owned());
        doors.push(Door { name: base.clone(), base, token, client: client(own)? });
        Ok(Self { doors })
    }

    /// By the socket alone, of which the rest of the configuration knows nothing.
    fn despite(config: &Path, problems: &Problems) -> Result<Self, Exit> {
        match Whereabouts::read(config).ok().and_then(|found| found.admin_socket()) {
            Some(path) => {
                eprintln!(
                    "the configuration has problems (siemgate check): asking at {}",
                    path.display()
                );
                Ok(Self { doors: vec![Door::socket(path)?] })
            }
            None => {
                tell_problems(problems);
                eprintln!("a gateway that runs is found all the same with {SOCKET}=PATH");
                Err(Exit::Config)
            }
        }
    }

    pub async fn get(&self, path: &str) -> Result<Value, Exit> {
        self.ask(Method::GET, path).await
    }

    pub async fn post(&self, path: &str) -> Result<Value, Exit> {
        self.ask(Method::POST, path).await
    }

    /// Post `body`.
    pub async fn send(&self, path: &str, body: String) -> Result<Value, Exit> {
        let bytes = self.exchange(Method::POST, path, body).await?;
        serde_json::from_slice(&bytes).map_err(failed)
    }

    /// What is at `path`, as it is.
    pub async fn bytes(&self, path: &str) -> Result<Vec<u8>, Exit> {
        self.exchange(Method::GET, path, String::new()).await
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Value, Exit> {
        let bytes = self.exchange(method, path, String::new()).await?;
        serde_json::from_slice(&bytes).map_err(failed)
    }

    async fn exchange(&self, method: Method, path: &str, body: String) -> Result<Vec<u8>, Exit> {
        let (mut tried, mut closed) = (Vec::new(), None);
        for door in &self.doors {
            let mut request = door.client.request(method.clone(), format!("{}{path}", door.base));
            if !body.is_empty() {
                request = request.body(body.clone());
            }
            if let Some(token) = &door.token {
                request = request.bearer_auth(token);
            }
            match request.send().await {
                Ok(response) => {
                    let ok = response.status().is_success();
                    let bytes = response.bytes().await.map_err(failed)?;
                    return if ok { Ok(bytes.into()) } else { Err(refused(&bytes, closed)) };
                }
                Err(error) => {
                    if is_forbidden(&error) {
                        closed = Some(&*door.name);
                    }
                    tried.push(format!("{} ({})", door.name, plain(&error)));
                }
            }
        }
        let tried = tried.join(" nor at ");
        Err(failed(match closed {
            Some(socket) => format!("no gateway answers at {tried}; {}", of_another(socket)),
            None => format!(
                "no gateway answers at {tried}; is `siemgate run` running with this configuration?"
            ),
        }))
    }
}

/// What to do about a socket that this user may not open.
fn of_another(socket: &str) -> String {
    format!(
        "{socket} is for the user that runs siemgate: run this as that user (sudo -u USER siemgate …), or set server.admin_token"
    )
}

fn is_forbidden(error: &reqwest::Error) -> bool {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let io = inner.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == ErrorKind::PermissionDenied)
}

/// Why the gateway said no, with every problem of a configuration. `closed` is the socket that this
/// user may not open.
fn refused(answer: &[u8], closed: Option<&str>) -> Exit {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let problems = answer["problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let problems: String = problems.map(|problem| format!("\n  {problem}")).collect();
    let error = answer["error"].as_str().unwrap_or("refused without a reason");
    let closed = closed.map(|socket| format!("\n  {}", of_another(socket))).unwrap_or_default();
    failed(format!("{error}{problems}{closed}"))
}

/// The innermost reason of a request that failed.
pub(super) fn plain(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
