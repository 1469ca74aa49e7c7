//! How much of a program is too much: found in its text, before a compiler that calls itself for
//! every level of an expression sees it.
//!
//! Guarantees: brackets nest at most [`NESTING`] deep and one expression has at most [`OPERATORS`]
//! signs of operators along any path through its brackets, so that running it needs little stack;
//! loops nest at most [`LOOPS`] deep, because the time to compile them doubles with each;
//! no index has more than [`DIGITS`] digits. It is not a parser: what it lets through may be wrong.

use super::mistakes::excerpt;
use crate::core::config::Problem;

/// Longest source of a program, in bytes.
const SOURCE: usize = 16 << 10;
/// Deepest nesting of brackets.
const NESTING: usize = 64;
/// Most signs of operators in one expression: 128 times `&&`.
const OPERATORS: usize = 256;
/// Deepest nesting of blocks such as `-> |key, value| { … }`.
const LOOPS: usize = 8;
/// Most digits of an index: the compiler and assignments fill arrays up to it.
const DIGITS: usize = 4;
/// What operators are made of.
const SIGNS: &str = "+-*/%&|?=<>!";

/// What the compiler should not even try.
pub(super) fn too_much(key: &str, source: &str) -> Option<Problem> {
    if source.trim().is_empty() {
        let help = "write an expression, or leave the key out";
        return Some(Problem::new(key, "is empty").help(help));
    }
    if source.len() > SOURCE {
        let message = format!("is {} bytes long; at most {SOURCE} are allowed", source.len());
        return Some(Problem::new(key, message).help("split the rule into several routes"));
    }
    let (at, message) = Reader::default().read(source)?;
    let (row, help) = excerpt(source, at, "here");
    Some(Problem::new(key, message).help(help).row(row))
}

/// An open bracket: the signs before it in its expression, and whether it is a loop's.
struct Open {
    signs: usize,
    is_loop: bool,
}

/// Walks over a source, past its strings and comments.
#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    /// Signs of operators so far in the current expression.
    signs: usize,
    /// The last character that was neither space nor comment.
    last: char,
}

impl Reader {
    /// Where there is too much, and of what.
    fn read(mut self, source: &str) -> Option<(usize, String)> {
        let mut at = 0;
        while let Some(c) = source[at..].chars().next() {
            let rest = &source[at + c.len_utf8()..];
            if c == '[' && self.is_index() && digits(rest) > DIGITS {
                return Some((at, format!("has an index of more than {DIGITS} digits")));
            }
            let skipped = match c {
                '#' => rest.find('\n').unwrap_or(rest.len()),
                '"' | '\'' => closing(rest, c),
                _ => 0,
            };
            self.take(c, rest);
            if let Some(message) = self.too_much() {
                return Some((at, message));
            }
            if !c.is_whitespace() && c != '#' {
                self.last = c;
            }
            at += c.len_utf8() + skipped;
        }
        None
    }

    fn take(&mut self, c: char, rest: &str) {
        match c {
            '\n' if !self.goes_on(rest) => self.signs = 0,
            ';' | ',' => self.signs = 0,
            '(' | '[' | '{' => {
                let is_loop = c == '{' && self.last == '|';
                self.open.push(Open { signs: std::mem::take(&mut self.signs), is_loop });
            }
            ')' | ']' | '}' => self.signs = self.open.pop().map_or(0, |open| open.signs),
            'e' if rest.starts_with("lse") => self.signs += 1,
            c if SIGNS.contains(c) => self.signs += 1,
            _ => {}
        }
    }

    fn too_much(&self) -> Option<String> {
        if self.open.len() > NESTING {
            return Some(format!("nests brackets more than {NESTING} deep"));
        }
        if self.open.iter().filter(|open| open.is_loop).count() > LOOPS {
            return Some(format!("nests loops more than {LOOPS} deep"));
        }
        let signs = self.open.iter().map(|open| open.signs).sum::<usize>() + self.signs;
        (signs > OPERATORS)
            .then(|| format!("has more than {OPERATORS} operator signs in one expression"))
    }

    /// Whether the expression goes on in the next line.
    fn goes_on(&self, rest: &str) -> bool {
        let next = rest.trim_start();
        SIGNS.contains(self.last)
            || next.starts_with(|c| SIGNS.contains(c))
            || next.starts_with("else")
    }

    /// Whether a bracket here is an index and not a list.
    fn is_index(&self) -> bool {
        self.last.is_alphanumeric() || matches!(self.last, '_' | '"' | ']' | ')' | '}' | '.' | '%')
    }
}

/// The bytes up to and with the quote that closes a string.
fn closing(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    let closes = |(_, c): &(usize, char)| {
        let closes = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        closes
    };
    rest.char_indices().find(closes).map_or(rest.len(), |(at, _)| at + 1)
}

fn digits(rest: &str) -> usize {
    let number = rest.trim_start().trim_start_matches('-');
    number.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'_').count()
}
