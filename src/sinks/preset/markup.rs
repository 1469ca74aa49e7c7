//! Texts that other people chose, made harmless where a destination gives characters a meaning.
//!
//! Guarantees: no mention, link, heading or tag comes out of a file name or a user name; what people
//! read stays recognisable. A length is checked after disarming, by whoever has a limit.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;

/// The markup of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Markup {
    /// Data: nothing has a meaning.
    #[default]
    None,
    /// Text without markup, in which some products still look for mentions and addresses.
    Plain,
    /// Slack's mrkdwn: `&`, `<` and `>` are escaped, so that `<!channel>` and links stay text.
    Slack,
    /// Markdown with `@` mentions (Discord, Mattermost, Teams, Rocket.Chat, Webex, Zulip).
    Markdown,
    /// HTML (Telegram, Google Chat's cards).
    Html,
}

/// Ends what looks like a mention, a link or an emphasis, and is not seen.
const JOINER: char = '\u{2060}';

impl Markup {
    /// `text` without any meaning but its own.
    pub fn disarm<'t>(self, text: &'t str) -> Cow<'t, str> {
        match self {
            Self::None => Cow::Borrowed(text),
            Self::Plain => replaced(text, |c, out| out.push(c)),
            Self::Slack => replaced(text, |c, out| match c {
                // Slack has no escape for these.
                '*' | '_' | '~' | '`' => out.extend([JOINER, c, JOINER]),
                c => entity(c, out),
            }),
            Self::Html => replaced(text, entity),
            Self::Markdown => replaced(text, |c, out| match c {
                '\\' | '*' | '_' | '~' | '`' | '|' | '[' | ']' | '(' | ')' | '<' | '>' | '#' => {
                    out.extend(['\\', c]);
                }
                c => out.push(c),
            }),
        }
    }

    /// The address of a page inside a text: it stays a link, and can be nothing else.
    pub fn address(self, url: &str) -> Cow<'_, str> {
        if self == Self::None {
            return Cow::Borrowed(url);
        }
        let mut out = String::with_capacity(url.len());
        for c in url.chars() {
            match c {
                '&' if matches!(self, Self::Slack | Self::Html) => out.push_str("&amp;"),
                // Those that no markup gives a meaning.
                'a'..='z'
                | 'A'..='Z'
                | '0'..='9'
                | '-'
                | '.'
                | '/'
                | ':'
                | '?'
                | '='
                | '&'
                | '%'
                | '+'
                | ','
                | ';'
                | '#' => out.push(c),
                c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
                    let _ = write!(out, "%{byte:02X}");
                }),
            }
        }
        Cow::Owned(out)
    }
}

fn entity(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    }
}

/// `text` through `write`, on one line, without control characters, mentions, and addresses that a
/// client would make a link of.
fn replaced<'t>(text: &'t str, write: impl Fn(char, &mut String)) -> Cow<'t, str> {
    let mut out = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        match c {
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => out.push(' '),
            // Writing direction: a name could be read backwards.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {}
            '@' => out.extend(['@', JOINER]),
            ':' if text[at + 1..].starts_with('/') => out.extend([':', JOINER]),
            '.' if ends_with_www(&text[..at]) => out.extend([JOINER, '.']),
            c => write(c, &mut out),
        }
    }
    Cow::Owned(out)
}

fn ends_with_www(text: &str) -> bool {
    text.len()
        .checked_sub(3)
        .and_then(|at| text.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case("www"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Markup; 4] = [Markup::Plain, Markup::Slack, Markup::Markdown, Markup::Html];

    #[test]
    fn mentions_links_and_tags_stay_text() {
        let slack = Markup::Slack.disarm("<!channel> <http://x|y> @here & \r\n\u{202e}txt *b*");
        assert_eq!(
            slack,
            "&lt;!channel&gt; &lt;http:\u{2060}//x|y&gt; @\u{2060}here &amp;   txt \u{2060}*\u{2060}b\u{2060}*\u{2060}"
        );
        let markdown = Markup::Markdown.disarm("@everyone [x](http://y) C:\\a_b www.z");
        assert_eq!(
            markdown,
            "@\u{2060}everyone \\[x\\]\\(http:\u{2060}//y\\) C:\\\\a\\_b www\u{2060}.z"
        );
        assert_eq!(Markup::Html.disarm("<b>&"), "&lt;b&gt;&amp;");
        assert_eq!(Markup::Plain.disarm("<b>\n@x"), "<b> @\u{2060}x");
        assert_eq!(Markup::None.disarm("<@x>"), "<@x>");
    }

    #[test]
    fn links_stay_links_and_nothing_else() {
        let url = "https://dse.example/i?id=1&x=<b>|[y](z)@_*ä";
        let safe = "https://dse.example/i?id=1&x=%3Cb%3E%7C%5By%5D%28z%29%40%5F%2A%C3%A4";
        assert_eq!(Markup::Markdown.address(url), safe);
        assert_eq!(Markup::Html.address(url), safe.replace('&', "&amp;"));
        assert_eq!(Markup::None.address(url), url);
    }

    proptest! {
        #[test]
        fn nothing_that_could_be_read_as_markup_is_left(text in "\\PC*|[<>@&\\[\\]()!*_`|:/w.\n]{0,40}") {
            for markup in [Markup::Slack, Markup::Html] {
                let text = markup.disarm(&text);
                prop_assert!(!text.contains(['<', '>', '\n']));
                prop_assert!(text.match_indices('&').all(|(at, _)| ["&amp;", "&lt;", "&gt;"].iter().any(|e| text[at..].starts_with(e))));
            }
            for markup in ALL {
                let text = markup.disarm(&text);
                prop_assert!(!text.contains("://") && !text.to_ascii_lowercase().contains("www."));
                prop_assert!(text.match_indices('@').all(|(at, _)| text[at + 1..].starts_with(JOINER)));
                prop_assert!(!text.contains(char::is_control));
            }
            let mut escaped = false;
            for c in Markup::Markdown.disarm(&text).chars() {
                prop_assert!(escaped || !"*_~`|[]()<>#".contains(c), "{c}");
                escaped = c == '\\' && !escaped;
            }
        }

        #[test]
        fn an_address_has_no_markup(url in "https://[!-~]{0,40}") {
            for markup in ALL {
                prop_assert!(!markup.address(&url).contains(['<', '>', '|', '[', ']', '(', ')', '*', '_', '`', '@', '"', '\'', '\\', ' ']));
            }
        }
    }
}
