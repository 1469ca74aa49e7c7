//! From a preset's `auth` and the user's values to a way of authenticating.

use reqwest::Url;
use reqwest::header::HeaderName;
use secrecy::SecretBox;

use super::super::auth::{Account, Auth, Client, Signed, Sigv4, StandardWebhooks, Tokens, Xsiam};
use super::fields::Values;
use super::file;
use super::template::{Part, parts};
use crate::core::config::{Problem, Problems};

/// The texts of an `auth`, with the values of fields in them.
struct Texts<'v> {
    values: &'v Values,
    section: &'v str,
}

/// The way that `auth` describes.
pub(super) fn auth(auth: &file::Auth, values: &Values, section: &str) -> Result<Auth, Problems> {
    let texts = Texts { values, section };
    texts.auth(auth).map_err(|problem| vec![problem])
}

impl Texts<'_> {
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
                Auth::header(name, &self.text(value)).map_err(|_| no_header(value))
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
            file::Auth::Google { key, scope } => {
                let account = Account::read(&self.text(key), &self.text(scope));
                account
                    .map(|account| Auth::Tokens(Box::new(Tokens::of_google(account))))
                    .map_err(|wrong| self.problem(key, wrong))
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
        let name = template.split("{{").nth(1).and_then(|rest| rest.split(['}', '?', ':']).next());
        Problem::new(format!("{}.{}", self.section, name.unwrap_or_default()), message)
    }
}
