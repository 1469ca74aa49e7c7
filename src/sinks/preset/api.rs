//! A compiled preset at work: four pure functions.
//!
//! Guarantees: what does not depend on an event was written when it was compiled; an event is written
//! once, straight into its piece.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value;

use super::super::auth::Auth;
use super::super::http::{Acks, Answer, HttpApi, Request, compress};
use super::super::show::Shown;
use super::ack;
use super::ended::Ended;
use super::fields::{self, Values};
use super::file::File;
use super::frame::{self, Form, Frame};
use super::markup::Markup;
use super::reply::Rules;
use super::room;
use super::template::{Node, Part, parts};
use super::view::View;
use super::ways::names;
use crate::core::route::{Format, Shaped};
use crate::core::sink::{Cause, Fault, Outcome, Piece, Probe, Reply};

/// What is kept in a segment of a path or a value of a query.
const KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
/// Stands for the events while a wrap is compiled.
const EVENTS: &str = "{{@events}}";

/// See the module.
pub(super) struct Compiled {
    method: Method,
    url: Url,
    headers: HeaderMap,
    auth: Auth,
    gzip: bool,
    frame: Frame,
    form: Form,
    event: Node,
    action: Option<Node>,
    format: Option<&'static Format>,
    markup: Markup,
    /// One event a request, and nothing around it: its bytes are those that came in.
    verbatim: bool,
    whole: bool,
    reply: Rules,
    probe: Option<Request>,
    probe_proves: bool,
    ended: Option<Ended>,
    acks: Option<Acks>,
    shown: Shown,
}

/// What is known of fields beside their values.
struct Kinds<'k> {
    is_address: &'k dyn Fn(&str) -> bool,
    /// What it holds must not be shown.
    is_private: &'k dyn Fn(&str) -> bool,
}

/// What fields are worth: their values, or stand-ins while a preset is checked.
pub(super) type Lookup<'l> = &'l dyn Fn(&str) -> Result<Option<Value>, ()>;

impl Compiled {
    pub fn new(
        file: &File,
        values: &Values,
        auth: Auth,
        gzip: bool,
        shown: Shown,
        format: Option<&'static Format>,
    ) -> Result<Self, String> {
        let known = |name: &str| match fields::named(&file.fields, name) {
            Some(_) => Ok(values.constant(name)),
            None => Err(()),
        };
        let kinds = Kinds {
            is_address: &|name| values.address(name).is_some(),
            is_private: &|name| values.is_private(name),
        };
        let compiled = Self::compile(file, &known, &kinds, auth, gzip)?;
        let verbatim = compiled.verbatim && format.is_none();
        Ok(Self { shown, verbatim, format: format.or(compiled.format), ..compiled })
    }

    /// Whether the file can be compiled with all fields set, or with only those that must be.
    pub fn check(file: &File, all: bool) -> Result<(), String> {
        let known = |name: &str| match fields::named(&file.fields, name) {
            Some(field) if all || field.is_always_set() => {
                Ok(Some(Value::from("https://field.example")))
            }
            Some(_) => Ok(None),
            None => Err(()),
        };
        let kinds = Kinds { is_address: &|_| true, is_private: &|_| true };
        Self::compile(file, &known, &kinds, Auth::None, false).map(drop)?;
        let texts = file.request.auth.0.iter().flat_map(|way| way.texts());
        for text in texts {
            constant(text, &known).map_err(|wrong| format!("request.auth: {wrong}"))?;
        }
        Ok(())
    }

    fn compile(
        file: &File,
        fields: Lookup<'_>,
        kinds: &Kinds<'_>,
        auth: Auth,
        gzip: bool,
    ) -> Result<Self, String> {
        let body = &file.body;
        let node = |value: &Value, what: &str| {
            let node = Node::compile(value, fields).map_err(|wrong| format!("{what}: {wrong}"))?;
            node.ok_or_else(|| format!("{what}: depends on a field that may be left out"))
        };
        let action = body.action.as_ref().map(|action| node(action, "body.action")).transpose()?;
        if action.is_some() != (body.frame == Form::Bulk) {
            return Err("body.action belongs to frame = \"bulk\", and only there".into());
        }
        let method = Method::from_bytes(file.request.method.as_bytes())
            .map_err(|_| "request.method is no method".to_owned())?;
        let mut url = url(&file.request.url, fields, kinds)?;
        query(&mut url, &file.request.query, fields)?;
        let headers = headers(file, fields, kinds)?;
        let probe = probe(file, fields, kinds, &headers)?;
        let ended = file.ended.as_ref().map(|ended| {
            let event = node(&ended.event, "ended.event")?;
            Ended::new(file, ended, event, fields, kinds.is_address)
        });
        let to = |template: &str| self::url(template, fields, kinds);
        let acks = file.ack.as_ref().map(|ack| ack::acks(ack, fields, to, &headers)).transpose()?;
        Ok(Self {
            method,
            url,
            headers,
            auth,
            gzip,
            frame: Frame::new(body.frame, around(file, fields)?),
            form: body.frame,
            event: node(&body.event, "body.event")?,
            action,
            markup: body.markup,
            format: body.format.map(|named| named.0),
            verbatim: body.frame == Form::Single
                && body.event == "{{@body}}"
                && body.format.is_none(),
            whole: file.limits.whole,
            reply: file.reply.clone(),
            probe,
            probe_proves: file.probe.as_ref().is_some_and(|probe| probe.proves),
            ended: ended.transpose()?,
            acks: acks.flatten(),
            shown: Shown::default(),
        })
    }

    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// How long it waits for a confirmation, if it does.
    pub fn patience(&self) -> Option<Duration> {
        self.acks.as_ref().map(|acks| acks.patience)
    }

    fn piece(&self, view: &View<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(view.body().len() + 256);
        if let Some(action) = &self.action {
            action.write(&mut out, view);
            out.push(b'\n');
        }
        let event = match &self.ended {
            Some(ended) if view.shaped.event.finding().ended => &ended.event,
            _ => &self.event,
        };
        match self.form {
            Form::Lines => out.extend_from_slice(view.body()),
            Form::Pairs => {
                event.write(&mut out, view);
                out = frame::form(&out);
            }
            _ => drop(event.write(&mut out, view)),
        }
        if self.form.ends_lines() {
            out.push(b'\n');
        }
        out
    }
}

impl HttpApi for Compiled {
    fn encode(&self, event: &Shaped, room: usize) -> Result<Bytes, Fault> {
        if self.verbatim
            && self.ended.is_none()
            && event.format.is_none()
            && event.body.len() <= room
        {
            return Ok(event.body.clone());
        }
        let view = || View::new(event, self.markup, &self.shown);
        let fitted = match (event.format.or(self.format), self.whole) {
            (Some(format), _) => room::formatted(view, room, format, |view| self.piece(view)),
            (None, true) => Some(self.piece(&view())).filter(|piece| piece.len() <= room),
            (None, false) => room::fit(view, room, |view| self.piece(view)),
        };
        fitted.map(Bytes::from).ok_or_else(|| {
            let bytes = event.body.len();
            let note = format!(
                "the event has {bytes} bytes and cannot be made to fit into {room} for this destination"
            );
            Fault::new(Cause::TooLarge, note)
        })
    }

    fn request(&self, pieces: &[Piece]) -> Request {
        let ended = self.ended.as_ref().zip(pieces.first()).filter(|(_, piece)| piece.ended);
        let (method, url) = match ended {
            Some((ended, piece)) => (&ended.method, ended.url(piece)),
            None => (&self.method, self.url.clone()),
        };
        let mut request = Request {
            method: method.clone(),
            url,
            headers: self.headers.clone(),
            body: self.frame.body(pieces),
        };
        if self.gzip {
            compress(&mut request);
        }
        request
    }

    fn accepted(&self, answer: &Answer, reply: Reply, sent: usize) -> Outcome {
        self.reply.judge(answer, Ok(reply), sent)
    }

    fn refused(&self, answer: &Answer, fault: Fault, sent: usize) -> Outcome {
        self.reply.judge(answer, Err(fault), sent)
    }

    fn acks(&self) -> Option<&Acks> {
        self.acks.as_ref()
    }

    fn auth(&self) -> &Auth {
        &self.auth
    }

    fn probe(&self) -> Request {
        let Some(probe) = &self.probe else {
            // No health address is known. OPTIONS delivers nothing, and any answer proves the way.
            let (url, headers) = (self.url.clone(), self.headers.clone());
            return Request { method: Method::OPTIONS, url, headers, body: Bytes::new() };
        };
        let (method, url) = (probe.method.clone(), probe.url.clone());
        Request { method, url, headers: probe.headers.clone(), body: probe.body.clone() }
    }

    fn probed(&self, _: &Answer, verdict: Result<Reply, Fault>) -> Result<Probe, Fault> {
        match (verdict, self.probe_proves) {
            _ if self.probe.is_none() => Ok(Probe::ReachableOnly),
            (Ok(_), true) => Ok(Probe::Accepted),
            (Ok(_), false) => Ok(Probe::ReachableOnly),
            (Err(fault), _) => Err(fault),
        }
    }
}

/// What a wrapped body has before and after its events.
fn around(file: &File, fields: Lookup<'_>) -> Result<(Bytes, Bytes), String> {
    let wrap = match (&file.body.wrap, file.body.frame) {
        (None, Form::Wrapped) => {
            return Err("body.wrap is missing: what stands around the events, with \"{{@events}}\" in their place".into());
        }
        (Some(_), form) if form != Form::Wrapped => {
            return Err("body.wrap belongs to frame = \"wrapped\", and only there".into());
        }
        (None, _) => return Ok((Bytes::new(), Bytes::new())),
        (Some(wrap), _) => wrap,
    };
    // A text that no value holds, so that the place is found again.
    let mark = "\u{1}events\u{1}";
    let marked = marked(wrap, mark);
    let node = Node::compile(&marked, fields).map_err(|wrong| format!("body.wrap: {wrong}"))?;
    let Some(Node::Raw(bytes)) = node else {
        return Err("body.wrap: only fields can stand around the events".into());
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mark = Value::from(mark).to_string();
    match text.split_once(&mark) {
        Some((before, after)) if !after.contains(&mark) => {
            Ok((format!("{before}[").into(), format!("]{after}").into()))
        }
        _ => Err("body.wrap: \"{{@events}}\" must stand in it once".into()),
    }
}

fn marked(value: &Value, mark: &str) -> Value {
    match value {
        Value::String(text) if text == EVENTS => mark.into(),
        Value::Array(items) => items.iter().map(|item| marked(item, mark)).collect(),
        Value::Object(table) => {
            table.iter().map(|(name, value)| (name.clone(), marked(value, mark))).collect()
        }
        plain => plain.clone(),
    }
}

/// An address: fields that are addresses as they are, everything else percent-encoded.
fn url(template: &str, fields: Lookup<'_>, kinds: &Kinds<'_>) -> Result<Url, String> {
    let encoded = |name: &str| encoded(fields(name)?, (kinds.is_address)(name));
    let words = constant(template, &encoded)?
        .ok_or("request.url depends on a field that may be left out")?;
    words.parse().map_err(|error| format!("request.url is no address: {error}"))
}

/// A field's value as it may stand in an address.
pub(super) fn encoded(value: Option<Value>, is_address: bool) -> Result<Option<Value>, ()> {
    Ok(match value {
        Some(Value::String(text)) if !is_address => {
            Some(Value::from(utf8_percent_encode(&text, KEPT).to_string()))
        }
        other => other,
    })
}

/// Add what `query` names to the address, byte for byte behind what it has.
fn query(
    url: &mut Url,
    query: &BTreeMap<String, String>,
    fields: Lookup<'_>,
) -> Result<(), String> {
    let mut pairs: Vec<String> = url.query().map(str::to_owned).into_iter().collect();
    for (name, template) in query {
        let wrong = |wrong| format!("request.query.{name}: {wrong}");
        if let Some(value) = constant(template, fields).map_err(wrong)? {
            let encoded = |text| utf8_percent_encode(text, KEPT).to_string();
            pairs.push(format!("{}={}", encoded(name), encoded(&value)));
        }
    }
    if !pairs.is_empty() {
        url.set_query(Some(&pairs.join("&")));
    }
    Ok(())
}

/// A text without placeholders of events; `None` when an optional field in it is not set.
fn constant(template: &str, fields: Lookup<'_>) -> Result<Option<String>, String> {
    let Some(parts) = parts(template, fields)? else { return Ok(None) };
    let words = parts.iter().map(|part| match part {
        Part::Words(words) => Ok(words.as_str()),
        Part::Hole(_) => Err(format!("`{template}`: only fields can stand here")),
    });
    words.collect::<Result<String, String>>().map(Some)
}

fn headers(file: &File, fields: Lookup<'_>, kinds: &Kinds<'_>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let kind = file.request.content_type.as_deref().unwrap_or(match file.body.frame {
        Form::Ndjson | Form::Bulk => "application/x-ndjson",
        Form::Lines => "text/plain",
        Form::Pairs => "application/x-www-form-urlencoded",
        _ => "application/json",
    });
    let wrong = |name: &str| format!("request.headers.{name} cannot be a header");
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).map_err(|_| wrong("content-type"))?);
    for (name, template) in &file.request.headers {
        let Some(text) = constant(template, fields)? else { continue };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(name))?;
        let mut value = HeaderValue::from_str(&text).map_err(|_| wrong(name))?;
        value.set_sensitive(names(template).any(|(name, _)| (kinds.is_private)(name)));
        headers.insert(key, value);
    }
    Ok(headers)
}

fn probe(
    file: &File,
    fields: Lookup<'_>,
    kinds: &Kinds<'_>,
    headers: &HeaderMap,
) -> Result<Option<Request>, String> {
    let Some(probe) = &file.probe else { return Ok(None) };
    let (method, template) = match (&probe.get, &probe.post) {
        (Some(get), None) => (Method::GET, get),
        (None, Some(post)) => (Method::POST, post),
        _ => return Err("probe needs either `get` or `post`".into()),
    };
    let body = match &probe.body {
        None => Bytes::new(),
        Some(body) => {
            match Node::compile(body, fields).map_err(|wrong| format!("probe.body: {wrong}"))? {
                Some(Node::Raw(bytes)) => bytes.into(),
                _ => return Err("probe.body: only fields can stand here".into()),
            }
        }
    };
    let url = url(template, fields, kinds)?;
    Ok(Some(Request { method, url, headers: headers.clone(), body }))
}
