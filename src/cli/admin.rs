//! Asking the running gateway over its admin listener.

use std::path::Path;

use reqwest::{Client, Method};
use serde_json::Value;

use super::own::client;
use super::{Exit, failed, plan};

/// An admin listener.
pub(super) struct Admin {
    base: String,
    client: Client,
}

impl Admin {
    /// The listener of the gateway that runs with this configuration.
    pub fn of(config: &Path) -> Result<Self, Exit> {
        let plan = plan(config)?;
        let own = plan.admin_tls.as_ref().map(|tls| &*tls.shown);
        let scheme = if own.is_some() { "https" } else { "http" };
        Ok(Self { base: format!("{scheme}://{}", plan.server.admin), client: client(own)? })
    }

    pub async fn get(&self, path: &str) -> Result<Value, Exit> {
        self.ask(Method::GET, path).await
    }

    pub async fn post(&self, path: &str) -> Result<Value, Exit> {
        self.ask(Method::POST, path).await
    }

    /// What is at `path`, as it is.
    pub async fn bytes(&self, path: &str) -> Result<Vec<u8>, Exit> {
        self.exchange(Method::GET, path).await
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Value, Exit> {
        let bytes = self.exchange(method, path).await?;
        serde_json::from_slice(&bytes).map_err(failed)
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<Vec<u8>, Exit> {
        let url = format!("{}{path}", self.base);
        let unreachable = |error: reqwest::Error| {
            failed(format!(
                "no gateway answers at {} ({}); is `siemgate run` running with this configuration?",
                self.base,
                plain(&error)
            ))
        };
        let response = self.client.request(method, &url).send().await.map_err(unreachable)?;
        let ok = response.status().is_success();
        let bytes = response.bytes().await.map_err(unreachable)?;
        if ok { Ok(bytes.into()) } else { Err(refused(&bytes)) }
    }
}

/// Why the gateway said no, with every problem of a configuration.
fn refused(answer: &[u8]) -> Exit {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let problems = answer["problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let problems: String = problems.map(|problem| format!("\n  {problem}")).collect();
    let error = answer["error"].as_str().unwrap_or("refused without a reason");
    failed(format!("{error}{problems}"))
}

/// The innermost reason of a request that failed.
pub(super) fn plain(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
