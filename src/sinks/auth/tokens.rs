//! Tokens that are fetched: OAuth 2 client credentials, Google's service accounts, and logins.
//!
//! Guarantees: one request at a time fetches, the others wait for it; a token is renewed when four
//! fifths of its life are over; what the token endpoint says is never shown, because it may hold a
//! token. What a refusal means is told with the setting to look at.

use bytes::Bytes;
use jiff::SignedDuration;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::super::http::{Http, Request};
use super::{NoHeader, basic, google, sensitive};
use crate::core::Timestamp;
use crate::core::sink::{Cause, Fault};

/// Life of a token whose endpoint does not say.
const LIFE: i64 = 600;
/// A token that was fetched so recently is not fetched again because of a refusal: the refusal has
/// another reason.
const YOUNG: i64 = 60;

/// A source of tokens.
pub struct Tokens {
    url: Url,
    grant: Grant,
    current: Mutex<Option<Token>>,
}

/// What a token is asked for with.
enum Grant {
    Client(Client),
    Google(Box<google::Account>),
    Login(Login),
}

/// A login with a name and a password, as products have it that give tokens out in their own way.
pub struct Login {
    header: HeaderValue,
    /// Where in the answer the token stands: a JSON pointer.
    token: String,
}

impl Login {
    /// With a name and a password, by HTTP's basic authentication.
    pub fn new(user: &str, password: &str, token: &str) -> Result<Self, NoHeader> {
        Ok(Self { header: basic(user, password)?, token: token.to_owned() })
    }
}

/// OAuth 2 client credentials.
pub struct Client {
    /// The client.
    pub id: String,
    /// Its secret.
    pub secret: secrecy::SecretString,
    /// What is asked for; empty for the endpoint's default.
    pub scope: String,
    /// For whom; empty where the endpoint needs none.
    pub audience: String,
}

struct Token {
    header: HeaderValue,
    fetched: Timestamp,
    renew: Timestamp,
}

#[derive(Deserialize)]
struct Answered {
    access_token: String,
    expires_in: Option<serde_json::Value>,
}

impl Tokens {
    /// Tokens of a client.
    pub fn of_client(url: Url, client: Client) -> Self {
        Self { url, grant: Grant::Client(client), current: Mutex::default() }
    }

    /// Tokens of a Google service account, from the endpoint that its key names.
    pub fn of_google(account: google::Account) -> Self {
        Self {
            url: account.token_url.clone(),
            grant: Grant::Google(Box::new(account)),
            current: Mutex::default(),
        }
    }

    /// Tokens of a login.
    pub fn of_login(url: Url, login: Login) -> Self {
        Self { url, grant: Grant::Login(login), current: Mutex::default() }
    }

    /// A token that is good now.
    pub async fn current(&self, http: &Http, now: Timestamp) -> Result<HeaderValue, Fault> {
        let mut current = self.current.lock().await;
        if let Some(token) =
            current.as_ref().filter(|token| now < token.renew && now >= token.fetched)
        {
            return Ok(token.header.clone());
        }
        let token = self.fetch(http, now).await?;
        Ok(current.insert(token).header.clone())
    }

    /// Forget the token unless it is young; true when another one can be fetched.
    pub async fn forget(&self, now: Timestamp) -> bool {
        let mut current = self.current.lock().await;
        let old = |token: &Token| now.duration_since(token.fetched).as_secs() >= YOUNG;
        let forget = current.as_ref().is_none_or(old);
        if forget {
            *current = None;
        }
        forget
    }

    async fn fetch(&self, http: &Http, now: Timestamp) -> Result<Token, Fault> {
        let request = Request {
            method: Method::POST,
            url: self.url.clone(),
            headers: self.headers(),
            body: Bytes::from(self.form(now)?),
        };
        let answer = http.exchange(request).await.map_err(|mut fault| {
            fault.note = format!("no token: {}", fault.note);
            fault
        })?;
        match (answer.status, self.answered(&answer.body)) {
            (200, Some(answered)) => token(&answered, now),
            (status, _) => Err(refused(status, &answer.body)),
        }
    }

    fn headers(&self) -> HeaderMap {
        match &self.grant {
            Grant::Login(login) => HeaderMap::from_iter([(AUTHORIZATION, login.header.clone())]),
            _ => {
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                HeaderMap::from_iter([(CONTENT_TYPE, form)])
            }
        }
    }

    fn answered(&self, body: &[u8]) -> Option<Answered> {
        match &self.grant {
            Grant::Login(login) => {
                let body: serde_json::Value = serde_json::from_slice(body).ok()?;
                let access_token = body.pointer(&login.token)?.as_str()?.to_owned();
                Some(Answered { access_token, expires_in: None })
            }
            _ => serde_json::from_slice(body).ok(),
        }
    }

    fn form(&self, now: Timestamp) -> Result<String, Fault> {
        use secrecy::ExposeSecret;
        let mut form = form_urlencoded::Serializer::new(String::new());
        match &self.grant {
            Grant::Client(client) => {
                form.append_pair("grant_type", "client_credentials");
                form.append_pair("client_id", &client.id);
                form.append_pair("client_secret", client.secret.expose_secret());
                let more = [("scope", &client.scope), ("audience", &client.audience)];
                for (name, value) in more.into_iter().filter(|(_, value)| !value.is_empty()) {
                    form.append_pair(name, value);
                }
            }
            Grant::Google(account) => {
                form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
                form.append_pair("assertion", &account.assertion(now)?);
            }
            Grant::Login(_) => {}
        }
        Ok(form.finish())
    }
}

fn token(answered: &Answered, now: Timestamp) -> Result<Token, Fault> {
    let header = sensitive(&format!("Bearer {}", answered.access_token)).map_err(|_| {
        Fault::new(Cause::Setup, "the token endpoint's token cannot stand in a header")
    })?;
    // Some endpoints write the number as text.
    let life = answered.expires_in.as_ref().and_then(|life| match life {
        serde_json::Value::String(text) => text.parse().ok(),
        number => number.as_i64(),
    });
    let life = life.filter(|life| (1..=31 * 86_400).contains(life)).unwrap_or(LIFE);
    let renew = now.saturating_add(SignedDuration::from_secs(life * 4 / 5)).unwrap_or(now);
    Ok(Token { header, fetched: now, renew })
}

/// What a token endpoint's refusal means. Its words are OAuth's own codes, which hold no secret.
fn refused(status: u16, body: &[u8]) -> Fault {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let code = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.error);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let code = code.ok().filter(|code| code.len() <= 60 && code.chars().all(plain));
    let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
    match status {
        408 | 500..=599 => {
            Fault::new(Cause::Down, format!("no token: the token endpoint answers {status}{code}"))
        }
        425 | 429 => {
            Fault::new(Cause::Busy, format!("no token: the token endpoint asks to slow down{code}"))
        }
        _ => Fault::new(
            Cause::Setup,
            format!(
                "no token: the token endpoint answers {status}{code}; check its address, the client's id and secret, the scope, and the clock of this machine"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_when_four_fifths_of_its_life_are_over() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let of = |life: serde_json::Value| {
            let answered = Answered { access_token: "t".into(), expires_in: Some(life) };
            token(&answered, now).unwrap().renew.duration_since(now).as_secs()
        };
        assert_eq!((of(3600.into()), of("3600".into()), of(0.into())), (2_880, 2_880, 480));
    }

    #[test]
    fn refusals_have_their_cause_and_repeat_no_secret() {
        for (status, cause) in
            [(400, Cause::Setup), (401, Cause::Setup), (503, Cause::Down), (429, Cause::Busy)]
        {
            let fault =
                refused(status, br#"{"error":"invalid_client","error_description":"hunter2"}"#);
            assert_eq!(fault.cause, cause);
            assert!(fault.note.contains("invalid_client") && !fault.note.contains("hunter2"));
        }
        assert!(!refused(400, br#"{"error":"the secret is hunter2"}"#).note.contains("hunter2"));
    }
}
