//! The newest lines of the journal, kept in memory for a support bundle.
//!
//! Guarantees: never more than [`LINES`] lines or [`BYTES`] bytes; a line is whole or it is not
//! kept; nobody who writes waits for a reader longer than copying takes. It is not the journal:
//! that goes to standard error, and is complete there.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Most lines kept.
const LINES: usize = 2_000;
/// Most bytes kept.
const BYTES: usize = 512 << 10;

/// See the module. Clones share the lines.
#[derive(Clone, Default)]
pub struct Recent(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    kept: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Lines {
    fn push(&mut self, line: &[u8]) {
        if line.len() > BYTES {
            return;
        }
        self.bytes += line.len();
        self.kept.push_back(line.into());
        while self.bytes > BYTES || self.kept.len() > LINES {
            let gone = self.kept.pop_front();
            self.bytes -= gone.map_or(0, |line| line.len());
        }
    }
}

impl Recent {
    /// The lines, oldest first, without colours.
    pub fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = lines.kept.iter().map(|line| String::from_utf8_lossy(line));
        all.map(|line| plain(&line)).collect()
    }
}

/// `text` without the escape sequences that colour a terminal.
fn plain(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

/// One line on its way in: the journal writes an entry in one piece.
impl io::Write for Recent {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Recent {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_newest_lines_are_kept_within_both_limits() {
        let mut recent = Recent::default();
        for number in 0..2 * LINES {
            recent.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        let text = recent.text();
        assert!(text.starts_with(&format!("{LINES}\n")) && text.lines().count() == LINES);
        let long = "x".repeat(BYTES / 4);
        for _ in 0..10 {
            recent.write_all(long.as_bytes()).unwrap();
        }
        recent.write_all(&[b'y'; BYTES + 1]).unwrap();
        assert_eq!(recent.text(), long.repeat(4));
    }

    #[test]
    fn colours_are_left_out() {
        assert_eq!(
            plain("\u{1b}[2m12:00\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m ready"),
            "12:00  INFO ready"
        );
    }
}
