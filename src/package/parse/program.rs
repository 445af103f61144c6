//! The `program` resource of a package file: a command that runs in the foreground.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::super::problem::quoted;
use super::super::{Millis, ProgramResource};
use super::signal;
use crate::package::file::keys::{kind_of, text};
use crate::package::file::{At, Keys, Report};

/// Keys of a program resource beside those of every resource.
pub const KEYS: &[&str] =
    &["command", "user", "working_directory", "environment", "stop_signal", "restarts", "restart_window"];
/// Restarts in place when the file names no number.
pub const RESTARTS_DEFAULT: u32 = 3;
/// Most restarts in place that a file may allow.
pub const RESTARTS_MAX: u32 = 1000;
/// The window in which restarts are counted when the file names none.
pub const RESTART_WINDOW_DEFAULT: Millis = Millis::from_secs(600);
/// Shortest window.
pub const RESTART_WINDOW_MIN: Millis = Millis::from_secs(1);
/// Longest window.
pub const RESTART_WINDOW_MAX: Millis = Millis::from_secs(7 * 24 * 3600);
/// SIGTERM.
pub const STOP_SIGNAL_DEFAULT: i32 = 15;
/// Environment names that pkgctl sets itself begin with it.
pub const OWN_PREFIX: &str = "PKG_";

const COMMAND: &str = "command = [\"/usr/sbin/x\", \"-f\"]";
const USER_MAX_BYTES: usize = 32;

/// Reads a program resource; none when something was reported.
pub fn read(keys: &Keys<'_>, report: &mut Report) -> Option<ProgramResource> {
    let command = command(keys, report);
    let user = user(keys, report);
    let directory = keys.text("working_directory", "working_directory = \"/srv\"", report);
    let working_directory = directory.and_then(|given| absolute(&given, "working_directory", report));
    let environment = environment(keys, report);
    let stop_signal = stop_signal(keys, report);
    let restarts = keys.number("restarts", RESTARTS_DEFAULT, 0..=RESTARTS_MAX, report);
    let window = RESTART_WINDOW_MIN..=RESTART_WINDOW_MAX;
    let restart_window = keys.duration("restart_window", RESTART_WINDOW_DEFAULT, window, report);
    Some(ProgramResource {
        command: command?,
        user,
        working_directory,
        environment,
        stop_signal,
        restarts,
        restart_window,
    })
}

fn command(keys: &Keys<'_>, report: &mut Report) -> Option<Vec<String>> {
    let value = keys.need("command", COMMAND, report)?;
    if let DeValue::String(line) = value.get_ref() {
        let words: Vec<String> = line.split_whitespace().map(|w| format!("{w:?}")).collect();
        let remedy = match words.is_empty() {
            true => format!("write {COMMAND}"),
            false => format!("write command = [{}]; no shell takes it apart", words.join(", ")),
        };
        report.add(value.span(), "'command' must be a list: the program, then each argument", remedy);
        return None;
    }
    let words = keys.texts("command", COMMAND, report)?;
    let Some(program) = words.get_ref().first() else {
        report.add(words.span(), "'command' is empty", format!("write {COMMAND}"));
        return None;
    };
    absolute(program, "command", report)?;
    Some(words.get_ref().iter().map(|w| (*w.get_ref()).to_owned()).collect())
}

/// A path that begins at the root; there is no search path and no working directory to be relative to.
fn absolute(given: &At<&str>, key: &str, report: &mut Report) -> Option<String> {
    let path = *given.get_ref();
    if path.starts_with('/') && (key != "command" || !path.ends_with('/')) {
        return Some(path.to_owned());
    }
    let (what, remedy) = match (key, path.starts_with('/')) {
        ("command", true) => ("is a directory", "write the program's own path".to_owned()),
        ("command", false) => {
            ("is not an absolute path", format!("write the whole path, as 'command -v {path}' shows it"))
        }
        (_, _) => ("is not an absolute path", "write the whole path, from / on".to_owned()),
    };
    report.add(given.span(), format!("{} {what}", quoted(path)), remedy);
    None
}

fn user(keys: &Keys<'_>, report: &mut Report) -> Option<String> {
    const USER: &str = "user = \"www-data\"";
    let value = keys.get("user")?;
    let given = match value.get_ref() {
        DeValue::Integer(number) => number.to_string(),
        DeValue::String(_) => (*text(value, "user", USER, report)?.get_ref()).to_owned(),
        other => {
            let what = format!("'user' must be a user's name or number, not {}", kind_of(other));
            report.add(value.span(), what, format!("write {USER}"));
            return None;
        }
    };
    if is_user(&given) {
        return Some(given);
    }
    report.add(value.span(), format!("{} is no user's name or number", quoted(&given)), format!("write {USER}"));
    None
}

/// A user id, or a name as useradd accepts it. Whether such a user exists is checked on each node.
fn is_user(text: &str) -> bool {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        // The largest number means "no user" to the kernel.
        return text.parse::<u32>().is_ok_and(|id| id < u32::MAX);
    }
    let name = text.strip_suffix('$').unwrap_or(text);
    text.len() <= USER_MAX_BYTES
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

fn environment(keys: &Keys<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let Some(value) = keys.get("environment") else { return BTreeMap::new() };
    let DeValue::Table(table) = value.get_ref() else {
        let what = format!("'environment' must be a table of names and texts, not {}", kind_of(value.get_ref()));
        report.add(value.span(), what, "write environment = { LANG = \"C.UTF-8\", PORT = \"8080\" }");
        return BTreeMap::new();
    };
    let mut environment = BTreeMap::new();
    for (name, value) in table {
        let word = name.get_ref().as_ref();
        if word.starts_with(OWN_PREFIX) {
            let what = format!("{} begins with {OWN_PREFIX}, which pkgctl keeps for itself", quoted(word));
            report.add(
                name.span(),
                what,
                "choose a name that begins otherwise; PKG_TOKEN and its like are set already",
            );
        } else if !is_variable(word) {
            let remedy = "use a-z A-Z 0-9 _ and begin with a letter or _";
            report.add(name.span(), format!("{} is not the name of a variable", quoted(word)), remedy);
        }
        let scalar = match value.get_ref() {
            DeValue::Integer(number) => number.to_string(),
            DeValue::Boolean(yes) => yes.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::String(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => "text".to_owned(),
        };
        let example = format!("{word} = \"{scalar}\"");
        if let Some(text) = text(value, word, &example, report) {
            environment.insert(word.to_owned(), (*text.get_ref()).to_owned());
        }
    }
    environment
}

fn is_variable(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn stop_signal(keys: &Keys<'_>, report: &mut Report) -> i32 {
    let Some(value) = keys.get("stop_signal") else { return STOP_SIGNAL_DEFAULT };
    let number = match value.get_ref() {
        DeValue::Integer(number) => {
            i32::from_str_radix(number.as_str(), number.radix()).ok().and_then(signal::by_number)
        }
        DeValue::String(name) => signal::by_name(name),
        DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    };
    number.unwrap_or_else(|| {
        let given = match value.get_ref() {
            DeValue::Integer(number) => quoted(&number.to_string()),
            DeValue::String(name) => quoted(name),
            other => kind_of(other).to_owned(),
        };
        report.add(value.span(), format!("{given} is no signal that ends a program"), signal::REMEDY);
        STOP_SIGNAL_DEFAULT
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_or_numbers() {
        for good in ["root", "www-data", "_apt", "1000", "0", "a.b", "host$"] {
            assert!(is_user(good), "{good}");
        }
        for bad in ["", "-x", "a b", "a:b", "4294967295", "99999999999", "1a", "$", "ü", &"x".repeat(33)] {
            assert!(!is_user(bad), "{bad}");
        }
    }

    #[test]
    fn variables_are_what_a_shell_can_name() {
        assert!(is_variable("PORT") && is_variable("_x9"));
        for bad in ["", "9x", "a=b", "a-b", "ä"] {
            assert!(!is_variable(bad), "{bad}");
        }
    }
}
