//! What of a fence device is never shown: values of options whose name says so, and credentials within URLs.

use std::cmp::Reverse;
use std::ops::Range;

/// What stands where a secret is not shown.
pub const MASK: &str = "********";
/// An option whose name has one of these in it is a secret. Agents' metadata does not say which are.
const SECRET_PARTS: [&str; 10] =
    ["pass", "pwd", "phrase", "secret", "token", "key", "community", "credential", "bearer", "cookie"];
/// What parts a URL's scheme from whom it names.
const MARK: &str = "://";

/// Whether an option's value is never shown.
pub fn is_secret(option: &str) -> bool {
    let name = option.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| name.contains(part))
}

/// What of an option's value must not be seen anywhere.
pub fn secrets_of(option: &str, value: &str) -> Vec<String> {
    if is_secret(option) {
        return vec![value.to_owned()];
    }
    let found = url_secrets(value);
    // An agent may print one as it is written in the URL, or as it is meant.
    found.into_iter().flat_map(|at| [value[at.clone()].to_owned(), decoded(&value[at])]).collect()
}

/// An option's value as it may be shown.
pub fn shown(option: &str, value: &str) -> String {
    if is_secret(option) { MASK.to_owned() } else { without_url_secrets(value) }
}

/// A text without these secrets, and without those of any URL. The longest go first: one that is part of another must
/// leave nothing of the other.
pub fn strike<'a>(text: &str, secrets: impl Iterator<Item = &'a str>) -> String {
    let mut secrets: Vec<&str> = secrets.filter(|secret| !secret.is_empty()).collect();
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    let struck = secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASK));
    without_url_secrets(&struck)
}

fn without_url_secrets(text: &str) -> String {
    let mut out = text.to_owned();
    // From the end, so that what is in front keeps its place.
    for at in url_secrets(text).into_iter().rev() {
        out.replace_range(at, MASK);
    }
    out
}

/// Where the passwords of the URLs in a text are, in order.
fn url_secrets(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (mark, _) in text.match_indices(MARK) {
        let from = found.last().map_or(0, |last| last.end);
        found.extend(url_secret(text, mark).filter(|at| at.start >= from));
    }
    found
}

/// The password of the URL whose [`MARK`] is there. Of `ssh://root@host` nothing is one, of `https://token@host` all
/// before the host.
fn url_secret(text: &str, mark: usize) -> Option<Range<usize>> {
    let start = mark + MARK.len();
    let url = text[start..].split(char::is_whitespace).next()?;
    let authority = url.split(['/', '?', '#']).next()?;
    let user = match authority.rfind('@') {
        Some(end) => &url[..end],
        // A password in which these were not encoded; what follows a host is a number.
        None if !authority.split_once(':')?.1.bytes().all(|byte| byte.is_ascii_digit()) => &url[..url.rfind('@')?],
        None => return None,
    };
    let web = text[..mark].ends_with("http") || text[..mark].ends_with("https");
    let secret = match user.find(':') {
        Some(colon) => colon + 1,
        None if web => 0,
        None => return None,
    };
    (secret < user.len()).then(|| start + secret..start + user.len())
}

/// A text with its `%41` decoded.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => bytes.extend(b"%".iter().chain(part.as_bytes())),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_secrets_are_known_however_they_are_written() {
        let secret =
            ["passwd", "snmp_priv_passwd", "PWD", "passphrase", "token", "client-secret", "private_key", "api_key"];
        assert_eq!(secret.map(is_secret), [true; 8]);
        assert_eq!(["ip", "plug", "username", "lanplus", "ssl_insecure", "login_timeout"].map(is_secret), [false; 6]);
    }

    #[test]
    fn a_urls_password_is_not_shown_and_the_rest_of_it_is() {
        let cases = [
            ("https://admin:hunter2@bmc.example:8443/x?y=a@b", "https://admin:********@bmc.example:8443/x?y=a@b"),
            ("https://hunter2@bmc", "https://********@bmc"),
            ("https://admin:hun#ter/2@bmc/x", "https://admin:********@bmc/x"),
            ("http://a:b@h http://c:d@h", "http://a:********@h http://c:********@h"),
            ("qemu+ssh://root@host/system", "qemu+ssh://root@host/system"),
            ("https://bmc:8443/x@y", "https://bmc:8443/x@y"),
            ("https://bmc/x, mail admin@bmc", "https://bmc/x, mail admin@bmc"),
            ("https://:@bmc", "https://:@bmc"),
        ];
        for (value, wanted) in cases {
            assert_eq!(shown("url", value), wanted);
            assert_eq!(strike(value, [].into_iter()), wanted);
        }
    }

    #[test]
    fn a_urls_password_is_struck_wherever_an_agent_repeats_it_as_written_or_as_meant() {
        let secrets = secrets_of("url", "https://admin:hunter%2f2@bmc");
        let said = strike("no login as admin with hunter/2 (hunter%2f2)", secrets.iter().map(String::as_str));
        assert_eq!(said, "no login as admin with ******** (********)");
    }

    proptest! {
        #[test]
        fn any_text_is_borne_and_once_struck_stays_as_it_is(text in "(http|s|://|:|@|/|%|#| |ä|4|[a-z]){0,40}") {
            let once = without_url_secrets(&text);
            prop_assert_eq!(without_url_secrets(&once), once.clone());
            drop(secrets_of("x", &text));
        }
    }
}
