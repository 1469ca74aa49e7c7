//! Fields with keys, and how a line of them is made to fit.
//!
//! Guarantees: no value is longer than its key allows; cuts keep whole characters, and whole items
//! of lists as long as there are two; what is given up first is written in [`Spare`], and nothing
//! is cut that need not be.

use std::borrow::Cow;

use super::text;

/// Stands between the items of a list.
const BETWEEN: &str = ", ";

/// What is given up for want of room. First all lists shrink to their first item, in this order;
/// then, in the same order, what is left is cut from its end. Id, times, severity, state, count of
/// files and the mark of a drill stay whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spare {
    /// The list of files.
    Files,
    /// The list of shares.
    Shares,
    /// The list of clients beyond the first.
    Clients,
    /// The list of clusters beyond the first.
    Clusters,
    /// The line for people, which repeats the rest.
    Title,
    /// The first file.
    File,
    /// The page of the incident.
    Link,
    /// The source, the protocol, the reported severity, the category (the class has it too).
    Minor,
    /// What ties updates to the incident.
    Incident,
    /// Cluster, account and client.
    Who,
    /// Not at all.
    Never,
}

/// A key with its value: a text, or the items of a list.
pub struct Field<'f> {
    /// The key.
    pub key: &'static str,
    /// What names a key that has no meaning by itself: `("cs1Label", "Shares")`.
    pub label: Option<(&'static str, &'static str)>,
    items: Vec<Cow<'f, str>>,
    spare: Spare,
}

/// How a format writes one character of a value.
pub type Escape = fn(char, &mut String);

impl<'f> Field<'f> {
    /// `key` with the values there are, in at most so many bytes before they are escaped.
    pub fn new<V: Into<Cow<'f, str>>>(
        key: &'static str,
        values: impl IntoIterator<Item = V>,
        most: usize,
        spare: Spare,
    ) -> Self {
        let trimmed = |value: V| match value.into() {
            Cow::Borrowed(text) => Cow::Borrowed(trim(text)),
            Cow::Owned(text) => Cow::Owned(trim(&text).to_owned()),
        };
        let items = values.into_iter().map(trimmed).filter(|item| !item.is_empty()).collect();
        let mut field = Self { key, label: None, items, spare };
        field.limit(most);
        field
    }

    /// The same with what names the key.
    pub fn labelled(self, key: &'static str, name: &'static str) -> Self {
        Self { label: Some((key, name)), ..self }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Append the value.
    pub fn write(&self, escape: Escape, out: &mut String) {
        let texts = self.items.iter().enumerate().flat_map(|(index, item)| {
            let between = if index == 0 { "" } else { BETWEEN };
            [between, &**item]
        });
        texts.flat_map(str::chars).for_each(|c| escape(c, out));
    }

    fn limit(&mut self, most: usize) {
        let mut length: usize = self.items.iter().map(|item| item.len() + BETWEEN.len()).sum();
        while self.items.len() > 1 && length - BETWEEN.len() > most {
            length -= self.items.pop().map_or(0, |item| item.len() + BETWEEN.len());
        }
        if let [only] = &mut self.items[..] {
            shorten(only, most);
        }
        self.items.retain(|item| !item.is_empty());
    }

    /// Give up items from the end of a list, but not the first, for so many written bytes.
    fn drop_items(&mut self, bytes: usize, escape: Escape) {
        let mut gained = 0;
        while self.items.len() > 1 && gained < bytes {
            gained += self.items.pop().map_or(0, |item| cost(&item, escape) + BETWEEN.len());
        }
    }

    /// Give up the end of the only text for so many written bytes.
    fn cut(&mut self, bytes: usize, escape: Escape) {
        let [only] = &mut self.items[..] else { return };
        let (mut gained, mut end) = (0, only.len());
        for (at, c) in only.char_indices().rev() {
            if gained >= bytes {
                break;
            }
            gained += cost(c.encode_utf8(&mut [0; 4]), escape);
            end = at;
        }
        shorten(only, end);
        self.items.retain(|item| !item.is_empty());
    }
}

/// How many bytes `text` takes when it is written.
fn cost(text: &str, escape: Escape) -> usize {
    let mut written = String::with_capacity(2 * text.len());
    text.chars().for_each(|c| escape(c, &mut written));
    written.len()
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || text::is_control(c))
}

fn shorten(text: &mut Cow<'_, str>, most: usize) {
    if text.len() > most {
        *text = Cow::Owned(trim(text::cut(text, most)).to_owned());
    }
}

/// The line that `write` makes of `fields`, with as much given up as it takes to fit into `room`.
pub fn fit<'f>(
    mut fields: Vec<Field<'f>>,
    room: usize,
    escape: Escape,
    write: impl Fn(&[Field<'f>]) -> String,
) -> Option<String> {
    let mut order: Vec<usize> =
        (0..fields.len()).filter(|&at| fields[at].spare < Spare::Never).collect();
    order.sort_by_key(|&at| fields[at].spare);
    let mut line = write(&fields);
    for give_up in [Field::drop_items, Field::cut] {
        for &at in &order {
            if line.len() <= room {
                return Some(line);
            }
            give_up(&mut fields[at], line.len() - room, escape);
            line = write(&fields);
        }
    }
    (line.len() <= room).then_some(line)
}
