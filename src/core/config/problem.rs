//! What is wrong with a configuration: where, what, and what to do.
//!
//! Not an error that stops at the first: loaders collect problems and report all of them.

use std::fmt;
use std::path::PathBuf;

/// All problems found, in no particular order.
pub type Problems = Vec<Problem>;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key, such as `sinks.soc.url`; empty when the whole file is concerned.
    pub key: String,
    /// Where it was set, if it was.
    pub place: Option<Place>,
    /// When the mistake is inside a text: how many of the text's lines are above it.
    pub row: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub help: String,
}

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a line of a file, counted from 1.
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// By an environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

impl Problem {
    /// A problem with the value of `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            place: None,
            row: None,
            message: message.into(),
            help: String::new(),
        }
    }

    /// `key` holds a value, or a list of tables, where a table is needed.
    pub fn no_table(key: impl Into<String>) -> Self {
        let key = key.into();
        let named = matches!(key.as_str(), "sources" | "routes" | "sinks");
        let title = if named { format!("{key}.NAME") } else { key.clone() };
        let help = format!("write [{title}] on a line of its own, and its keys on the lines below");
        Self::new(key, "must be a table").help(help)
    }

    /// The same with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// The same inside a text, below `row` of its lines.
    #[must_use]
    pub fn row(mut self, row: usize) -> Self {
        self.row = Some(row);
        self
    }

    /// The same at a place.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> Self {
        self.place = self.place.or(place);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if !self.help.is_empty() {
            write!(f, "\n    {}", self.help)?;
        }
        Ok(())
    }
}
