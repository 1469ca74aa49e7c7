//! Text that may stand in other people's lines.
//!
//! Guarantees: cuts never split a character; no control character, line break or separator of
//! lines or paragraphs is left.

/// Whether `c` breaks lines or steers terminals: no format lets it through.
pub fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// `c`, or a space where it is a control character (tabs too: receivers rewrite them).
pub fn shown(c: char) -> char {
    if is_control(c) { ' ' } else { c }
}

/// The beginning of `text` in at most so many bytes.
pub fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// `text` as one printable word of ASCII, at most so many characters; `-` when nothing is left.
pub fn token(text: &str, most: usize) -> String {
    let printable = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let word: String = text.trim().chars().take(most).map(printable).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// `text` as a word of an identifier: lower case, digits, `_`, `-`, at most so many characters.
pub fn identifier(text: &str, most: usize) -> String {
    let plain = |c: char| match c {
        'a'..='z' | '0'..='9' | '_' | '-' => c,
        'A'..='Z' => c.to_ascii_lowercase(),
        _ => '_',
    };
    text.trim().chars().take(most).map(plain).collect()
}
