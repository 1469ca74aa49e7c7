//! From a preset's `auth` and the user's values to a way of authenticating.

use reqwest::Url;
use reqwest::header::HeaderName;
use secrecy::SecretBox;

use super::super::auth::{
    Account, Auth, Client, Login, SharedAccess, Signed, Sigv4, StandardWebhooks, Tokens, Xsiam,
};
use super::fields::Values;
use super::file;
use super::hole::split;
use super::template::{Part, parts};
use crate::core::config::{Problem, Problems};

/// The texts of an `auth`, with the values of fields in them.
struct Texts<'v> {
    values: &'v Values,
    section: &'v str,
}

/// The way that counts, of those in the file: the one whose fields are set.
pub(super) fn auth(ways: &[file::Auth], values: &Values, section: &str) -> Result<Auth, Problems> {
    let texts = Texts { values, section };
    let told = |problem| vec![problem];
    let ready: Vec<&file::Auth> =
        ways.iter().filter(|way| texts.needed(way).all(|name| texts.has(name))).collect();
    match ready[..] {
        [] => texts.nothing_is_half(ways).map(|()| Auth::None).map_err(told),
        [way] => texts.auth(way).map_err(told),
        [_, second, ..] => {
            let name = texts.needed(second).next().unwrap_or_default();
            let problem = texts.at(name, "is a second way of proving who sends");
            Err(told(problem.help("set the keys of one way only")))
        }
    }
}

/// The name of a field in a placeholder, and whether it must be there.
pub(super) fn names(template: &str) -> impl Iterator<Item = (&str, bool)> {
    template.split("{{").skip(1).filter_map(|rest| {
        let (name, optional, _) = split(rest.split("}}").next()?)?;
        Some((name, optional))
    })
}

impl Texts<'_> {
    /// The fields without which a way does not count.
    fn needed<'a>(&self, way: &'a file::Auth) -> impl Iterator<Item = &'a str> + use<'a> {
        let needed = |(name, optional): (&'a str, bool)| (!optional).then_some(name);
        way.texts().into_iter().flat_map(move |text| names(text).filter_map(needed))
    }

    fn has(&self, name: &str) -> bool {
        self.values.constant(name).is_some()
    }

    /// No way counts: that is no mistake unless the key of one of them has been set.
    fn nothing_is_half(&self, ways: &[file::Auth]) -> Result<(), Problem> {
        for way in ways {
            let lacking = self.needed(way).find(|name| !self.has(name));
            let set = self.needed(way).find(|name| self.has(name) && !self.is_address(name));
            if let (Some(lacking), Some(set)) = (lacking, set) {
                let message =
                    format!("is missing, and {}.{set} is of no use without it", self.section);
                return Err(self.at(lacking, message));
            }
        }
        Ok(())
    }

    fn is_address(&self, name: &str) -> bool {
        self.values.address(name).is_some()
    }

    fn at(&self, name: &str, message: impl Into<String>) -> Problem {
        Problem::new(format!("{}.{name}", self.section), message)
    }

    fn auth(&self, auth: &file::Auth) -> Result<Auth, Problem> {
        let no_header = |of: &str| {
            let problem = self.problem(of, "cannot stand in a header");
            problem.help(
                "it holds a line break or another control character: was the wrong file named?",
            )
        };
        match auth {
            file::Auth::None => Ok(Auth::None),
            file::Auth::Bearer(token) => {
                Auth::bearer(&self.text(token)).map_err(|_| no_header(token))
            }
            file::Auth::Basic { user, password } => {
                Auth::basic(&self.text(user), &self.text(password)).map_err(|_| no_header(password))
            }
            file::Auth::Header { name, value } => {
                Auth::header(&self.text(name), &self.text(value)).map_err(|_| no_header(value))
            }
            file::Auth::Oauth2 { token_url, client_id, client_secret, scope, audience } => {
                let client = Client {
                    id: self.text(client_id),
                    secret: self.text(client_secret).into(),
                    scope: self.text(scope),
                    audience: self.text(audience),
                };
                Ok(Auth::Tokens(Box::new(Tokens::of_client(self.url(token_url)?, client))))
            }
            file::Auth::Login { url, user, password, token } => {
                let login = Login::new(&self.text(user), &self.text(password), token)
                    .map_err(|_| no_header(password))?;
                Ok(Auth::Tokens(Box::new(Tokens::of_login(self.url(url)?, login))))
            }
            file::Auth::Google { key, scope, token_url } => {
                let mut account = Account::read(&self.text(key), &self.text(scope))
                    .map_err(|wrong| self.problem(key, wrong))?;
                if !self.text(token_url).is_empty() {
                    account.token_url = self.url(token_url)?;
                }
                Ok(Auth::Tokens(Box::new(Tokens::of_google(account))))
            }
            file::Auth::Sigv4 { service, region, access_key, secret_key, session_token } => {
                let token = self.text(session_token);
                Ok(Auth::Sigv4(Sigv4 {
                    service: self.text(service),
                    region: self.text(region),
                    access_key: self.text(access_key),
                    secret_key: self.text(secret_key).into(),
                    session_token: (!token.is_empty()).then(|| token.into()),
                }))
            }
            file::Auth::StandardWebhooks(secret) => StandardWebhooks::read(&self.text(secret))
                .map(Auth::StandardWebhooks)
                .map_err(|wrong| self.problem(secret, wrong)),
            file::Auth::Hmac { secret, header, prefix, base64 } => {
                let header = self.text(header);
                let name = HeaderName::from_bytes(header.as_bytes())
                    .map_err(|_| self.problem(secret, "goes into a header that cannot be one"))?;
                Ok(Auth::Signed(Signed {
                    header: name,
                    prefix: self.text(prefix),
                    base64: *base64,
                    key: SecretBox::new(Box::new(self.text(secret).into_bytes())),
                }))
            }
            file::Auth::Xsiam { key, key_id } => {
                Ok(Auth::Xsiam(Xsiam { key: self.text(key).into(), id: self.text(key_id) }))
            }
            file::Auth::SharedAccess { resource, policy, key } => {
                let (resource, policy) = (self.text(resource), self.text(policy));
                Ok(Auth::SharedAccess(SharedAccess {
                    resource,
                    policy,
                    key: self.text(key).into(),
                }))
            }
        }
    }

    /// A text; what is not set is empty. Presets are checked when read, so nothing else is amiss.
    fn text(&self, template: &str) -> String {
        let lookup = |name: &str| Ok(self.values.constant(name));
        let parts = parts(template, &lookup).ok().flatten().unwrap_or_default();
        let words = parts.iter().map(|part| match part {
            Part::Words(words) => words.as_str(),
            Part::Hole(_) => "",
        });
        words.collect()
    }

    fn url(&self, template: &str) -> Result<Url, Problem> {
        self.text(template).parse().map_err(|_| self.problem(template, "is no address"))
    }

    /// A problem with the field that `template` names first.
    fn problem(&self, template: &str, message: &str) -> Problem {
        self.at(names(template).map(|(name, _)| name).next().unwrap_or_default(), message)
    }
}
