//! From the settings of a source's `auth` to its ways.
//!
//! Guarantees: every mistake is told with its full key; what is built cannot fail later. It judges
//! no request.

use actix_web::http::header::HeaderName;

use super::signature::{Form, Scheme, Stamp, TOLERANCE, standard_key};
use super::{Way, Ways};
use crate::core::config::{BasicAuth, DoorAuth, HmacAuth, Problem, Problems, Secrets, Span};

const BODY: &str = "{body}";
const TIMESTAMP: &str = "{timestamp}";

impl Ways {
    /// The ways in `settings`, which stand at `key`.
    pub fn new(key: &str, settings: Vec<DoorAuth>) -> Result<Self, Problems> {
        let (mut ways, mut problems) = (Vec::new(), Problems::new());
        for (index, auth) in settings.into_iter().enumerate() {
            match way(&format!("{key}[{index}]"), auth) {
                Ok(way) => ways.push(way),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(Self(ways)) } else { Err(problems) }
    }
}

fn way(key: &str, auth: DoorAuth) -> Result<Way, Problems> {
    let DoorAuth { header, secret, bearer, basic, standard_webhooks, hmac, client_cert } = auth;
    let named = [
        ("header", header.is_some() || secret.is_some()),
        ("bearer", bearer.is_some()),
        ("basic", basic.is_some()),
        ("standard_webhooks", standard_webhooks.is_some()),
        ("hmac", hmac.is_some()),
        ("client_cert", client_cert.is_some()),
    ];
    let named: Vec<&str> = named.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    if let [first, second, ..] = named[..] {
        let help = format!("write a table for each: [{{ {first} = … }}, {{ {second} = … }}]");
        return one(Problem::new(key, format!("has two ways: {}", named.join(", "))).help(help));
    }
    if let Some(names) = client_cert {
        let names = names.as_slice().to_vec();
        return match names.is_empty() || names.iter().any(String::is_empty) {
            true => one(Problem::new(format!("{key}.client_cert"), "names nobody")
                .help("write a name of the sender's certificate, such as \"defender.example\"")),
            false => Ok(Way::ClientCert(names)),
        };
    }
    match (header, secret, bearer, basic, standard_webhooks, hmac) {
        (Some(name), Some(secrets), ..) => {
            let name = header_name(&format!("{key}.header"), name)?;
            Ok(Way::Header { name, secrets })
        }
        (Some(_), None, ..) => one(missing(key, "secret", "the token that the header carries")),
        (None, Some(_), ..) => one(missing(key, "header", "the name of the header")),
        (.., Some(secrets), _, _, _) => Ok(Way::Bearer(secrets)),
        (.., Some(BasicAuth { user, .. }), _, _) if user.contains(':') => {
            one(Problem::new(format!("{key}.basic.user"), "a user's name cannot contain `:`"))
        }
        (.., Some(BasicAuth { user, password }), _, _) => {
            Ok(Way::Basic { user, passwords: password })
        }
        (.., Some(secrets), _) => standard(&format!("{key}.standard_webhooks"), secrets),
        (.., Some(hmac)) => signed(&format!("{key}.hmac"), hmac),
        _ => one(Problem::new(key, "names no way to authenticate").help(
            "write { header = \"X-Token\", secret = … }, { bearer = … }, { basic = … }, { standard_webhooks = … }, { hmac = … } or { client_cert = [\"NAME\"] }",
        )),
    }
}

fn one<T>(problem: Problem) -> Result<T, Problems> {
    Err(vec![problem])
}

fn missing(key: &str, name: &str, about: &str) -> Problem {
    Problem::new(format!("{key}.{name}"), format!("`{name}` is missing"))
        .help(format!("{name}: {about}"))
}

fn header_name(key: &str, name: String) -> Result<String, Problems> {
    match HeaderName::try_from(name.as_str()) {
        Ok(_) => Ok(name),
        Err(_) => one(Problem::new(key, format!("`{name}` is not the name of a header"))),
    }
}

fn standard(key: &str, secrets: Secrets) -> Result<Way, Problems> {
    // Deliberately without the value.
    if secrets.iter().any(|secret| standard_key(secret).is_none()) {
        return one(Problem::new(key, "is not a signing secret of Standard Webhooks")
            .help("the sender shows it as whsec_ and base64; copy all of it"));
    }
    Ok(Way::Signed(Scheme::StandardWebhooks(secrets)))
}

fn signed(key: &str, hmac: HmacAuth) -> Result<Way, Problems> {
    let at = |name: &str| format!("{key}.{name}");
    let header = header_name(&at("header"), hmac.header)?;
    let stamp = match (hmac.timestamp_header, hmac.tolerance) {
        (Some(name), tolerance) => Some(Stamp {
            header: header_name(&at("timestamp_header"), name)?,
            tolerance: tolerance.map_or(Ok(TOLERANCE), |span| seconds(&at("tolerance"), span))?,
        }),
        (None, None) => None,
        (None, Some(_)) => {
            return one(Problem::new(at("tolerance"), "means nothing without `timestamp_header`")
                .help("name the header with the time of sending, or remove it"));
        }
    };
    let usual = if stamp.is_some() { "{timestamp}.{body}" } else { BODY };
    let text = hmac.signed.unwrap_or_else(|| usual.to_owned());
    let around = around(&text, stamp.is_some())
        .map_err(|(message, help)| vec![Problem::new(at("signed"), message).help(help)])?;
    Ok(Way::Signed(Scheme::Hmac(Form {
        secrets: hmac.secret,
        header,
        prefix: hmac.prefix,
        encoding: hmac.encoding,
        timestamp: stamp,
        around,
    })))
}

fn seconds(key: &str, span: Span) -> Result<i64, Problems> {
    let seconds = i64::try_from(span.0.as_secs()).unwrap_or(i64::MAX);
    if (1..=TOLERANCE).contains(&seconds) {
        return Ok(seconds);
    }
    one(Problem::new(key, format!("must be 1s to 5m, not {span}")).help(
        "a repeated request is recognised for ten minutes, five before and five after now; set the sender's clock",
    ))
}

/// What stands before and after the body.
fn around(text: &str, timed: bool) -> Result<(String, String), (String, &'static str)> {
    let parts: Vec<&str> = text.split(BODY).collect();
    let [before, after] = parts[..] else {
        return Err((
            format!("`{text}` must have {BODY} in it, once"),
            "such as \"{timestamp}.{body}\"",
        ));
    };
    let has_time = text.contains(TIMESTAMP);
    if has_time && !timed {
        return Err(("has {timestamp}, and no header has the time".into(), "set timestamp_header"));
    }
    if timed && !has_time {
        return Err((
            "has no {timestamp}, so anybody could change the time".into(),
            "write it as the sender signs it, such as \"{timestamp}.{body}\"",
        ));
    }
    let rest = text.replace(BODY, "").replace(TIMESTAMP, "");
    if rest.contains(['{', '}']) {
        return Err(("knows only {body} and {timestamp}".into(), "write all else as it is signed"));
    }
    Ok((before.to_owned(), after.to_owned()))
}
