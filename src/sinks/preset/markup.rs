//! Texts that other people chose, made harmless where a destination gives characters a meaning.
//!
//! Guarantees: no mention, link, heading or tag comes out of a file name or a user name; what people
//! read stays recognisable. A length is checked after disarming, by whoever has a limit.

use std::borrow::Cow;

use serde::Deserialize;

/// The markup of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Markup {
    /// Data: nothing has a meaning.
    #[default]
    None,
    /// Slack's mrkdwn: `&`, `<` and `>` are escaped, so that `<!channel>` and links stay text.
    Slack,
    /// Markdown with `@` mentions (Discord, Mattermost, Teams, Rocket.Chat, Webex, Google Chat).
    Markdown,
    /// HTML (Telegram).
    Html,
}

/// Ends what looks like a mention or a link, and is not seen.
const JOINER: char = '\u{2060}';

impl Markup {
    /// `text` without any meaning but its own.
    pub fn disarm<'t>(self, text: &'t str) -> Cow<'t, str> {
        match self {
            Self::None => Cow::Borrowed(text),
            Self::Slack | Self::Html => replaced(text, |c, out| match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '@' if self == Self::Slack => out.extend(['@', JOINER]),
                c => out.push(c),
            }),
            Self::Markdown => replaced(text, |c, out| match c {
                '@' => out.extend(['@', JOINER]),
                // A backslash before a letter would be kept: paths stay readable.
                '\\' => out.push_str("\\\\"),
                '*' | '_' | '~' | '`' | '|' | '[' | ']' | '(' | ')' | '<' | '>' | '#' => {
                    out.extend(['\\', c]);
                }
                c => out.push(c),
            }),
        }
    }
}

/// `text` through `write`, on one line and without control characters.
fn replaced<'t>(text: &'t str, write: impl Fn(char, &mut String)) -> Cow<'t, str> {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if c.is_control() => out.push(' '),
            // Writing direction: a name could be read backwards.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c => write(c, &mut out),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mentions_links_and_tags_stay_text() {
        let slack = Markup::Slack.disarm("<!channel> <http://x|y> @here & \r\n\u{202e}txt");
        assert_eq!(slack, "&lt;!channel&gt; &lt;http://x|y&gt; @\u{2060}here &amp;   txt");
        let markdown = Markup::Markdown.disarm("@everyone [x](http://y) C:\\a_b");
        assert_eq!(markdown, "@\u{2060}everyone \\[x\\]\\(http://y\\) C:\\\\a\\_b");
        assert_eq!(Markup::Html.disarm("<b>&"), "&lt;b&gt;&amp;");
        assert_eq!(Markup::None.disarm("<@x>"), "<@x>");
    }

    proptest! {
        #[test]
        fn nothing_that_could_be_read_as_markup_is_left(text in "\\PC*|[<>@&\\[\\]()!*_`|\n]{0,40}") {
            for markup in [Markup::Slack, Markup::Html] {
                let text = markup.disarm(&text);
                prop_assert!(!text.contains(['<', '>', '\n']));
                prop_assert!(text.match_indices('&').all(|(at, _)| ["&amp;", "&lt;", "&gt;"].iter().any(|e| text[at..].starts_with(e))));
            }
            for text in [Markup::Slack.disarm(&text), Markup::Markdown.disarm(&text)] {
                prop_assert!(text.match_indices('@').all(|(at, _)| text[at + 1..].starts_with(JOINER)));
            }
        }
    }
}
