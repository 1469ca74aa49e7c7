//! Many texts, kept as one: what an event names by the dozen and few destinations ask for.
//!
//! Guarantees: reads as the list of what was pushed, in order; a list costs three allocations, not one a
//! text, until somebody reads it. It is not bounded: who pushes is.

use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

use serde::{Serialize, Serializer};

/// See the module.
#[derive(Clone, Default)]
pub struct Texts {
    /// All of them, one after the other.
    joined: String,
    /// Where the second and each further one begins.
    starts: Vec<usize>,
    count: usize,
    /// Unpacked when first read.
    list: OnceLock<Vec<String>>,
}

impl Texts {
    /// Add `text` at the end.
    pub fn push(&mut self, text: &str) {
        self.list.take();
        if self.count == 1 {
            // Where there are two there are often many, of about this length.
            self.joined.reserve(16 * text.len());
            self.starts.reserve(32);
        }
        if self.count > 0 {
            self.starts.push(self.joined.len());
        }
        self.joined.push_str(text);
        self.count += 1;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first, without the others.
    pub fn into_first(mut self) -> Option<String> {
        let end = self.starts.first().copied().unwrap_or(self.joined.len());
        self.joined.truncate(end);
        (self.count > 0).then_some(self.joined)
    }

    /// Each for itself.
    pub fn into_vec(self) -> Vec<String> {
        match self.count {
            1 => vec![self.joined],
            _ => self.unpacked(),
        }
    }

    fn unpacked(&self) -> Vec<String> {
        let mut from = 0;
        let ends = self.starts.iter().copied().chain([self.joined.len()]);
        let text = |end| {
            let text = self.joined.get(from..end).unwrap_or_default();
            from = end;
            text.to_owned()
        };
        ends.map(text).take(self.count).collect()
    }
}

impl Deref for Texts {
    type Target = [String];
    fn deref(&self) -> &[String] {
        self.list.get_or_init(|| self.unpacked())
    }
}

impl From<Vec<String>> for Texts {
    fn from(list: Vec<String>) -> Self {
        list.iter().fold(Self::default(), |mut texts, text| {
            texts.push(text);
            texts
        })
    }
}

impl PartialEq for Texts {
    fn eq(&self, other: &Self) -> bool {
        (self.count, &self.starts, &self.joined) == (other.count, &other.starts, &other.joined)
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_pushed_is_read_back(
            list in prop::collection::vec("\\PC{0,5}", 0..40),
            more in "\\PC{0,5}",
        ) {
            let mut texts = Texts::from(list.clone());
            prop_assert_eq!(&*texts, list.as_slice());
            prop_assert_eq!(texts.clone().into_first(), list.first().cloned());
            prop_assert_eq!(texts.clone().into_vec(), list.clone());
            texts.push(&more);
            prop_assert_eq!((texts.count(), texts.last()), (list.len() + 1, Some(&more)));
            prop_assert!(texts != Texts::from(list));
        }
    }
}
