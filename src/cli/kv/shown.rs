//! Values where people read them: nothing that a terminal would obey, and one line where a line is meant.

/// Bytes of a value shown in a message.
const CUT_BYTES: usize = 200;

/// Whether a terminal shows it as it is: text with line breaks and tabs, and nothing else that controls.
pub fn is_plain(bytes: &[u8]) -> bool {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(harmless))
}

/// On one line: text as it is, with `\n`, `\t`, `\\`, `\x1b` and `\u{85}` for what would not be one line or not be shown;
/// bytes that are no text as `\xff`.
pub fn line(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
                c if c.is_control() => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        part.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out
}

/// The same for a message: quoted, and cut where it gets long.
pub fn cut(bytes: &[u8]) -> String {
    match bytes.get(..CUT_BYTES) {
        Some(head) if bytes.len() > CUT_BYTES => format!("'{}…' ({} bytes)", line(head), bytes.len()),
        Some(_) | None => format!("'{}'", line(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_no_line_break_and_nothing_a_terminal_obeys() {
        assert_eq!(line(b"a\nb\t\\"), "a\\nb\\t\\\\");
        assert_eq!(line(b"\x1b[31m\xff\x7f"), "\\x1b[31m\\xff\\x7f");
        assert_eq!(line("é\u{85}".as_bytes()), "é\\u{85}");
        let all: Vec<u8> = (0..=255).collect();
        assert!(!line(&all).chars().any(char::is_control));
    }

    #[test]
    fn plain_text_is_shown_as_it_is_and_nothing_else() {
        assert!(is_plain("größe\n\tx".as_bytes()));
        assert!(!is_plain(b"\x1b]0;title\x07") && !is_plain(b"\xff") && !is_plain(b"a\rb"));
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        assert_eq!(cut(b"x"), "'x'");
        assert!(cut(&[b'x'; 300]).ends_with("…' (300 bytes)"));
    }
}
