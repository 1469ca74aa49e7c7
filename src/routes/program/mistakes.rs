//! From VRL's diagnostics to problems: message, line within the program, and what to look at.
//!
//! Guarantees: every diagnostic becomes one problem; its row counts lines below the program's
//! first, and the configuration adds the line in the file; no colours.

use vrl::diagnostic::{Diagnostic, DiagnosticList, Formatter, Label, Note, Span};

use super::functions::refusal;
use crate::core::config::{Problem, Problems};

/// VRL's number for a call to an undefined function.
const UNDEFINED_FUNCTION: usize = 105;

/// One problem for each diagnostic about the `source` of `key`.
pub(super) fn problems(key: &str, source: &str, found: DiagnosticList) -> Problems {
    found.into_iter().map(|diagnostic| problem(key, source, diagnostic)).collect()
}

fn problem(key: &str, source: &str, mut diagnostic: Diagnostic) -> Problem {
    explain_refusal(source, &mut diagnostic);
    let start = diagnostic.labels.iter().find(|label| label.primary).or(diagnostic.labels.first());
    let row = start.map_or(0, |label| row_of(source, label.span.start()));
    let message = diagnostic.message.clone();
    Problem::new(key, message).help(shown(source, diagnostic)).row(row)
}

/// A function that exists but is not offered: say so, and why, instead of proposing another name.
fn explain_refusal(source: &str, diagnostic: &mut Diagnostic) {
    let Some(label) = diagnostic.labels.first().filter(|_| diagnostic.code == UNDEFINED_FUNCTION)
    else {
        return;
    };
    let span = label.span;
    let Some(name) = source.get(span.range()) else { return };
    if let Some(reason) = refusal(name) {
        diagnostic.message = format!("the function `{name}` is not available in routes: {reason}");
        diagnostic.labels = vec![Label::primary("not available", span)];
        diagnostic.notes = Vec::new();
    }
}

/// The formatter's excerpt without its header and the links that it adds to everything. The
/// numbers of lines are left out: the problem's own line is the one in the file.
fn shown(source: &str, mut diagnostic: Diagnostic) -> String {
    diagnostic.notes.retain(|note| {
        matches!(
            note,
            Note::Hint(_)
                | Note::Example(_)
                | Note::Basic(_)
                | Note::CoerceValue
                | Note::UserErrorMessage(_)
        )
    });
    // Codes 100 to 110 get a link of their own.
    diagnostic.code = 0;
    for label in &mut diagnostic.labels {
        label.span = within(source, label.span);
    }
    let text = Formatter::new(source, diagnostic).to_string();
    let lines = text.lines().skip_while(|line| !line.trim_start().starts_with('┌')).skip(1);
    let lines: Vec<String> = lines.filter(|line| !is_link(line)).filter_map(unnumbered).collect();
    lines.join("\n    ")
}

/// A span that the formatter can show: inside the source, on character boundaries.
fn within(source: &str, span: Span) -> Span {
    let clamp = |at: usize| source.floor_char_boundary(at.min(source.len()));
    Span::new(clamp(span.start()), clamp(span.end()))
}

fn is_link(line: &str) -> bool {
    line.contains("see language documentation at") || line.contains("VRL REPL")
}

/// The line with blanks for its number; `None` for a line that only spaces the others.
fn unnumbered(line: &str) -> Option<String> {
    let blank: String = line
        .char_indices()
        .map(|(at, c)| if line[..at].contains('│') || !c.is_ascii_digit() { c } else { ' ' })
        .collect();
    let blank = blank.trim_end().replacen('│', "|", 1);
    (!matches!(blank.trim(), "|" | "" | "=")).then_some(blank)
}

/// One line of `source` with a caret under the byte `at`, and how many lines are above it.
pub(super) fn excerpt(source: &str, at: usize, what: &str) -> (usize, String) {
    let label = Label::primary(what, Span::new(at, at + 1));
    (row_of(source, at), shown(source, Diagnostic::error(0, "").with_label(label)))
}

fn row_of(source: &str, at: usize) -> usize {
    source.as_bytes()[..at.min(source.len())].iter().filter(|byte| **byte == b'\n').count()
}
