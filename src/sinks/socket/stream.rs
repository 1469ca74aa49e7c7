//! A sink over one connection: TCP, with or without TLS.
//!
//! Guarantees: a batch is written whole and in order, or the connection counts as broken; one that
//! the peer has closed is not written into; what a broken one may have eaten is sent again on the
//! next, before anything new, and told (`Reply::resent`). TCP says nothing of what was read: an
//! event is delivered when its bytes are on their way, and the window of what may be sent again
//! dies with the process.

use std::io;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex as Lock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::dial;
use super::endpoint::Endpoint;
use super::window::{Ending, Window};
use super::wire::{Look, Wire};
use crate::core::sink::{Cause, Fault, Reply};
use crate::sinks::tls::Tls;

/// How often a connection is looked at while something sent on it may still be eaten.
const LOOK: Duration = Duration::from_millis(500);
/// A connection that ends so soon after it was opened may have been ended because of what was written.
const HASTY: Duration = Duration::from_secs(2);
/// So many in a row are suspicious.
const SUSPICIOUS: u8 = 2;
/// How long a suspicious receiver is watched after a write.
const WATCHED: u32 = 10;
const WATCH: Duration = Duration::from_millis(100);
/// The longest wait between two attempts to send again what was eaten.
const LONGEST: Duration = Duration::from_secs(30);

/// Where to, and how.
pub struct Route {
    /// The sink's dotted key, for advice.
    pub section: String,
    /// The destination.
    pub to: Endpoint,
    /// How it is encrypted, if it is.
    pub tls: Option<Tls>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// Messages of how long a time may be sent again.
    pub resend: Duration,
}

/// A connection that is opened when it is needed, and again when it is lost.
pub struct Stream {
    link: Arc<Link>,
    /// The task that sends again what was eaten while nothing new comes. Ends with the window, and
    /// with the sink.
    guard: Lock<Option<AbortHandle>>,
}

struct Link {
    route: Route,
    state: Mutex<State>,
}

struct State {
    wire: Option<Wire>,
    window: Window,
    /// Since when something is being written. Remains when the writer is cancelled: then what was
    /// written before is in doubt from that moment.
    writing: Option<Instant>,
    /// When the connection was opened.
    opened: Option<Instant>,
    /// Connections in a row that ended in haste after something was written.
    hasty: u8,
    /// Sent again, and not told yet.
    resent: u32,
}

impl State {
    /// The connection has ended.
    fn ended(&mut self, now: Instant, ending: Ending) {
        self.window.doubt(now, ending);
        let hasty = self.opened.take().is_some_and(|opened| now.duration_since(opened) < HASTY);
        self.hasty = if hasty { self.hasty.saturating_add(1) } else { 0 };
    }

    /// Whether the receiver may be ending connections because of what it is sent. Without a window
    /// that is nobody's question.
    fn is_suspicious(&self, route: &Route) -> bool {
        self.hasty >= SUSPICIOUS && !route.resend.is_zero()
    }
}

impl Stream {
    /// Nothing is opened.
    pub fn new(route: Route) -> Self {
        let window = Window::new(route.resend);
        let state = State { wire: None, window, writing: None, opened: None, hasty: 0, resent: 0 };
        Self { link: Arc::new(Link { route, state: Mutex::new(state) }), guard: Lock::default() }
    }

    /// The destination.
    pub fn to(&self) -> &Endpoint {
        &self.link.route.to
    }

    /// Write these messages, after those that were eaten.
    pub async fn send(&self, messages: &[Bytes]) -> Result<Reply, Fault> {
        let mut state = self.link.state.lock().await;
        self.link.open(&mut state).await?;
        self.link.write(&mut state, &messages.concat()).await?;
        state.window.sent(messages.iter().cloned(), Instant::now());
        let resent = std::mem::take(&mut state.resent);
        drop(state);
        self.watch();
        Ok(reply(resent))
    }

    /// Connect, if that has not been done.
    pub async fn reach(&self) -> Result<(), Fault> {
        self.link.open(&mut *self.link.state.lock().await).await
    }

    /// Send again what is in doubt, if that can be done by `deadline`, and hang up.
    pub async fn close(&self, deadline: std::time::Instant) {
        let work = async {
            let mut state = self.link.state.lock().await;
            let in_doubt = state.writing.is_some() || state.window.is_in_doubt();
            let closed = match &mut state.wire {
                Some(wire) => !matches!(wire.look().await, Look::Open),
                None => in_doubt,
            };
            if closed && !state.window.is_empty() {
                let _ = self.link.open(&mut state).await;
            }
            if let Some(mut wire) = state.wire.take() {
                wire.close().await;
            }
        };
        let _ = tokio::time::timeout_at(deadline.into(), work).await;
        self.stop_watching();
    }

    // The task belongs to this sink, which ends it.
    #[allow(clippy::disallowed_methods)]
    fn watch(&self) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.as_ref().is_none_or(AbortHandle::is_finished) {
            *guard = Some(tokio::spawn(watch(Arc::downgrade(&self.link))).abort_handle());
        }
    }

    fn stop_watching(&self) {
        if let Some(guard) = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take() {
            guard.abort();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop_watching();
    }
}

/// Look at the connection until nothing on it can be eaten any more.
async fn watch(link: Weak<Link>) {
    let mut wait = LOOK;
    loop {
        sleep(wait).await;
        let Some(link) = link.upgrade() else { return };
        // Whoever holds it looks by himself.
        let Ok(mut state) = link.state.try_lock() else { continue };
        state.window.forget(Instant::now());
        if state.window.is_empty() {
            return;
        }
        let opened = timeout(LONGEST, link.open(&mut state)).await;
        wait = if matches!(opened, Ok(Ok(()))) { LOOK } else { LONGEST.min(wait * 2) };
    }
}

impl Link {
    /// An open connection that has had everything that is in doubt.
    async fn open(&self, state: &mut State) -> Result<(), Fault> {
        if let Some(mut wire) = state.wire.take() {
            match wire.look().await {
                Look::Open => {
                    state.wire = Some(wire);
                    return Ok(());
                }
                Look::Closed => state.ended(Instant::now(), Ending::Closed),
                Look::Broken(error) => {
                    state.ended(Instant::now(), Ending::Broken);
                    let fault = self.fault(&error);
                    // TLS that was refused after the handshake would be so again, unseen.
                    if fault.cause == Cause::Setup {
                        return Err(fault);
                    }
                }
            }
        }
        // Also after a call that was cancelled while it wrote.
        let since = state.writing.take().unwrap_or_else(Instant::now);
        state.window.doubt(since, Ending::Broken);
        state.wire = Some(self.dial().await?);
        state.opened = Some(Instant::now());
        let due = state.window.due();
        if !due.is_empty() {
            self.write(state, &due.concat()).await?;
            let again = u32::try_from(due.len()).unwrap_or(u32::MAX);
            state.resent = state.resent.saturating_add(again);
        }
        state.window.settled(Instant::now());
        Ok(())
    }

    async fn dial(&self) -> Result<Wire, Fault> {
        let dial = Wire::dial(&self.route.to, self.route.tls.as_ref());
        match timeout(self.route.connect_timeout, dial).await {
            Ok(dialled) => dialled.map_err(|error| self.fault(&error)),
            Err(_) => {
                Err(Fault::new(Cause::Down, format!("{}: no connection in time", self.route.to)))
            }
        }
    }

    /// Write on the open connection. It is back in its place only when all went well.
    async fn write(&self, state: &mut State, bytes: &[u8]) -> Result<(), Fault> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        let Some(mut wire) = state.wire.take() else { return Err(self.fault(&closed())) };
        state.writing = Some(Instant::now());
        if let Err(error) = wire.write(bytes).await {
            state.ended(Instant::now(), Ending::Broken);
            return Err(self.fault(&error));
        }
        if state.is_suspicious(&self.route) {
            for _ in 0..WATCHED {
                sleep(WATCH).await;
                if !matches!(wire.look().await, Look::Open) {
                    state.ended(Instant::now(), Ending::Closed);
                    return Err(self.refused());
                }
            }
            state.hasty = 0;
        }
        (state.writing, state.wire) = (None, Some(wire));
        Ok(())
    }

    fn refused(&self) -> Fault {
        let Route { section, to, .. } = &self.route;
        let note = format!(
            "{to}: the receiver closes every connection as soon as it has got a message, so it probably refuses them; check {section}.framing (octet, lf or nul), and what its own log says"
        );
        Fault::new(Cause::Setup, note)
    }

    fn fault(&self, error: &io::Error) -> Fault {
        dial::fault(&self.route.to, self.route.tls.as_ref(), error)
    }
}

fn reply(resent: u32) -> Reply {
    let Some(resent) = NonZeroU32::new(resent) else { return Reply::default() };
    let excerpt = format!(
        "{resent} earlier messages were sent again: the connection before had ended and may have lost them; the receiver may have them twice"
    );
    Reply { resent: Some(resent), excerpt, ..Reply::default() }
}
