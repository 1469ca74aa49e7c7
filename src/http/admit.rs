//! From a request to a body whose sender is believed.
//!
//! Guarantees: nothing of a body is kept whose sender is not; one that is refused is read to its
//! end; only refusals are held back, see `auth/slowdown.rs`. A good signature with a time that is
//! off is refused too, but its body is kept in the quarantine: whoever has the secret made it, and
//! clocks go wrong more often than requests are captured.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Instant;

use actix_web::HttpRequest;
use actix_web::dev::Payload;

use super::auth::{self, Lack, Refusal, Shown};
use super::body::{self, Body, BodyError, Watched, Wire};
use super::door::Door;
use super::ingress::{Ingress, Refused};
use super::tls::Names;
use crate::core::clock::words;

/// What an admitted sender sent.
pub(super) struct Admitted {
    /// The body, or why there is none.
    pub read: Result<Body, BodyError>,
    /// The name of the request, where its signature vouches for it.
    pub key: Option<Vec<u8>>,
}

impl Ingress {
    /// Let a sender in, or say why not.
    pub(super) async fn admit(
        &self,
        door: &Door,
        request: &HttpRequest,
        mut payload: Payload,
        sender: Option<IpAddr>,
    ) -> Result<Admitted, Refused> {
        let Some(address) = sender.filter(|_| door.allows(sender)) else {
            body::drain(&mut payload).await;
            return Err(not_allowed(sender));
        };
        let names = Names::of(request.conn_data());
        match door.ways.look(request.headers(), names, (self.engine.clock)()) {
            Shown::Enough => {
                Ok(Admitted { read: self.read(request, &mut payload).await, key: None })
            }
            Shown::Nothing(lack) => {
                body::drain(&mut payload).await;
                Err(self.held_back(door, lack, address, names).await)
            }
            Shown::Signatures(mut checks) => {
                let feed = |bytes: &[u8]| checks.iter_mut().for_each(|check| check.feed(bytes));
                let read = self.read(request, &mut Watched::new(payload, feed)).await;
                if matches!(read, Err(BodyError::Late)) {
                    // Without its end there is no verdict, and nothing to keep.
                    return Ok(Admitted { read, key: None });
                }
                match auth::verdict(checks) {
                    Ok(proof) => Ok(Admitted { read, key: proof.key }),
                    Err(lack) => {
                        let refused = self.held_back(door, lack, address, names).await;
                        match (lack, read) {
                            (Lack::Late(_), Ok(body)) => Err(self
                                .quarantined(door, body.bytes, false, sender, refused)
                                .await),
                            _ => Err(refused),
                        }
                    }
                }
            }
        }
    }

    async fn read(
        &self,
        request: &HttpRequest,
        payload: &mut impl Wire,
    ) -> Result<Body, BodyError> {
        let settings = self.settings.load_full();
        let limit = usize::try_from(settings.body_limit.0).unwrap_or(usize::MAX);
        body::read(request, payload, limit, settings.body_timeout.0, &self.budget).await
    }

    /// The refusal, after the wait that this sender has earned.
    async fn held_back(
        &self,
        door: &Door,
        lack: Lack,
        sender: IpAddr,
        names: &[String],
    ) -> Refused {
        if self.hold(sender).await {
            let error = "too many refused requests from this address are waiting for their answers";
            return Refused::new(429, "slowed", error).later(5).closing();
        }
        let refused = Refused::new(401, lack.as_str(), told(door, lack, names));
        refused.challenge(door.ways.challenge())
    }

    /// Wait as long as whoever failed must; true when too many are waiting.
    pub(super) async fn hold(&self, sender: IpAddr) -> bool {
        let slowdown = || self.slowdown.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = slowdown().failed(sender, Instant::now());
        match refusal {
            Refusal::Close => true,
            Refusal::Hold(wait) if wait.is_zero() => false,
            Refusal::Hold(wait) => {
                // Also when the sender does not wait for its answer.
                let _held = Held { ingress: self, sender };
                tokio::time::sleep(wait).await;
                false
            }
        }
    }
}

/// One answer that is held back.
struct Held<'i> {
    ingress: &'i Ingress,
    sender: IpAddr,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut slowdown = self.ingress.slowdown.lock().unwrap_or_else(PoisonError::into_inner);
        slowdown.answered(self.sender);
    }
}

fn not_allowed(sender: Option<IpAddr>) -> Refused {
    let error = match sender {
        Some(ip) => format!("{ip} may not post here; add it to this source's `allow`"),
        None => {
            "a trusted proxy names no address in X-Forwarded-For, so the sender is unknown".into()
        }
    };
    Refused::new(403, "sender", error)
}

fn told(door: &Door, lack: Lack, names: &[String]) -> String {
    match lack {
        Lack::Token => {
            format!("the token is missing or wrong; this source wants {}", door.ways.wanted())
        }
        Lack::Signature => format!(
            "the signature is missing or does not fit the body and the secret; this source wants {}, made over the bytes as they are sent",
            door.ways.wanted()
        ),
        Lack::Certificate if names.is_empty() => {
            format!("no client certificate came; this source wants {}", door.ways.wanted())
        }
        Lack::Certificate => format!(
            "the client certificate is for {}; this source wants {}",
            names.join(", "),
            door.ways.wanted()
        ),
        Lack::Late(seconds) => format!(
            "the signature is good, but made {} {} now: the sender's clock or this machine's is off, or an old request was sent again; the body is in the quarantine",
            words(seconds),
            if seconds < 0 { "after" } else { "before" }
        ),
    }
}
