//! Rust source as the rules read it: without comments, texts and tests, on the same lines; and the paths that it uses.
//!
//! Not a parser: enough of one for source that compiles and is formatted.

/// The text with comments, the content of texts and characters, and test items blanked. Lines stay where they are.
pub fn code_of(text: &str) -> String {
    without_tests(&without_words(text))
}

/// Comments and the content of literals, blanked.
fn without_words(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => until(&chars, at, |rest| rest.starts_with(&['\n'])),
            ('/', Some('*')) => comment_end(&chars, at),
            ('r', Some('"' | '#')) if !word_before => raw_end(&chars, at).unwrap_or(at),
            ('"', _) => quoted_end(&chars, at, '"'),
            ('\'', Some('\\')) => quoted_end(&chars, at, '\''),
            ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at + 3,
            _ => at,
        };
        if end > at {
            chars[at..end].iter().for_each(|c| out.push(if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

fn until(chars: &[char], from: usize, stop: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|at| stop(&chars[*at..])).unwrap_or(chars.len())
}

/// Comments in `/* */` may hold others.
fn comment_end(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], from: usize, quote: char) -> usize {
    let mut at = from + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// `r"…"` and `r#"…"#`; none for a raw identifier.
fn raw_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    let open = from + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    Some((until(chars, open + 1, |rest| rest.starts_with(&close)) + close.len()).min(chars.len()))
}

/// Items marked `#[cfg(test)]`, blanked.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let item = &out[start..];
        let end = start + item_end(item);
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Where an item ends: with its `;`, or with the brace that closes it.
fn item_end(item: &str) -> usize {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '{' | '(' => depth += 1,
            ')' => depth -= 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// The modules that a file declares for tests only.
pub fn test_modules(text: &str) -> Vec<String> {
    let code = without_words(text);
    let after = code.split("#[cfg(test)]").skip(1);
    let declared = after.filter_map(|rest| {
        let rest = rest.trim_start();
        // Past the visibility: `pub`, `pub(crate)`, `pub(super)`.
        let rest = rest.strip_prefix("pub").map_or(rest, |r| r.split_once(") ").map_or(r, |(_, r)| r)).trim_start();
        rest.strip_prefix("mod ")?.split_once(';').map(|(name, _)| name.trim().to_owned())
    });
    declared.filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_')).collect()
}

/// Every path of every `use`, groups taken apart, with its line from 1.
pub fn uses(code: &str) -> Vec<(usize, String)> {
    let mut found = vec![];
    let mut rest = code;
    let mut line = 1;
    while let Some(at) = next_use(rest) {
        line += rest[..at].matches('\n').count();
        let statement = rest[at..].split(';').next().unwrap_or_default();
        let tree: String = statement["use ".len()..].chars().filter(|c| !c.is_whitespace()).collect();
        expand("", &tree, &mut |path| found.push((line, path)));
        line += statement.matches('\n').count();
        rest = &rest[at + statement.len()..];
    }
    found
}

/// Where the next `use` statement begins.
fn next_use(code: &str) -> Option<usize> {
    let alone = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices("use ").map(|(at, _)| at).find(|at| alone(*at))
}

fn expand(prefix: &str, tree: &str, take: &mut impl FnMut(String)) {
    let Some((head, group)) = tree.split_once('{') else {
        return take(format!("{prefix}{tree}"));
    };
    let prefix = format!("{prefix}{head}");
    let group = group.strip_suffix('}').unwrap_or(group);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &group[start..at], take);
                start = at + 1;
            }
            _ => {}
        }
    }
    if start < group.len() {
        expand(&prefix, &group[start..], take);
    }
}

#[test]
fn words_and_tests_are_not_code() {
    let text = "a(\"x // y\", 'z', b'\\'', r#\"q\"#) // c\n/* d /* e */\n f */ g::<'l>()\n#[cfg(test)]\nmod t {\n fn h() {}\n}\nfn i() {}\n";
    let code = code_of(text);
    assert_eq!(code.lines().count(), text.lines().count());
    let words: String = code.split_whitespace().collect();
    assert_eq!(words, "a(,,b,)g::<'l>()fni(){}");
}

#[test]
fn groups_of_uses_are_taken_apart() {
    let code = "use std::{fs, io::{Read, Write as W}};\nfn because() {}\npub use crate::{\n    raft,\n};\nuse a::b;";
    let paths: Vec<_> = uses(code);
    let expected = [(1, "std::fs"), (1, "std::io::Read"), (1, "std::io::WriteasW"), (3, "crate::raft"), (6, "a::b")];
    assert_eq!(paths, expected.map(|(line, path)| (line, path.to_owned())));
}

#[test]
fn modules_for_tests_only_are_known() {
    let text = "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\npub(super) mod c;\n#[cfg(test)]\npub mod d { f() } \n";
    assert_eq!(test_modules(text), ["b", "c"]);
}
