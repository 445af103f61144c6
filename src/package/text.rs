//! A definition written as a package file again: what `init` compares, what the door checks.

use std::fmt::Write;

use toml::Value;

use super::parse::{parse_definition, signal};
use super::{FilesystemResource, Kind, LunResource, Package, ProgramResource, Resource};

/// The definition as a file, with every default written out. [`parse`] reads the same definition back.
pub fn to_toml(package: &Package) -> String {
    let mut out = String::new();
    line(&mut out, "name", package.name.as_str());
    if !package.description.is_empty() {
        line(&mut out, "description", package.description.as_str());
    }
    line(&mut out, "nodes", package.nodes.iter().map(|n| n.as_str().to_owned()).collect::<Vec<_>>());
    package.resources.iter().for_each(|resource| write_resource(&mut out, resource));
    out
}

/// Everything wrong with a definition that did not come from a file; empty when nothing is.
pub fn check(package: &Package) -> Vec<String> {
    match parse_definition(&to_toml(package)) {
        Ok(read) if read == *package => Vec::new(),
        Ok(_) => vec!["the definition does not read back as it was given".to_owned()],
        Err(problems) => {
            let shown = problems.problems.iter();
            shown.map(|p| format!("{}: {} ({})", p.excerpt, p.what, p.remedy)).collect()
        }
    }
}

fn write_resource(out: &mut String, resource: &Resource) {
    out.push_str("\n[[resource]]\n");
    line(out, "kind", resource.kind.word());
    line(out, "name", resource.name.as_str());
    match &resource.kind {
        Kind::Ip(ip) => {
            line(out, "address", format!("{}/{}", ip.address, ip.prefix));
            line(out, "device", ip.device.as_str());
        }
        Kind::Program(program) => write_program(out, program),
        Kind::Lun(lun) => write_lun(out, lun),
        Kind::Filesystem(filesystem) => write_filesystem(out, filesystem),
    }
    line(out, "start_timeout", resource.start_timeout.to_string());
    line(out, "stop_timeout", resource.stop_timeout.to_string());
}

fn write_program(out: &mut String, program: &ProgramResource) {
    line(out, "command", program.command.clone());
    program.user.iter().for_each(|user| line(out, "user", user.as_str()));
    program.working_directory.iter().for_each(|path| line(out, "working_directory", path.as_str()));
    if !program.environment.is_empty() {
        let table: toml::Table =
            program.environment.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
        line(out, "environment", Value::Table(table));
    }
    line(out, "stop_signal", signal::word(program.stop_signal));
    line(out, "restarts", i64::from(program.restarts));
    line(out, "restart_window", program.restart_window.to_string());
}

fn write_lun(out: &mut String, lun: &LunResource) {
    line(out, "device", lun.device.as_str());
    line(out, "abort", lun.abort);
    line(out, "preempt_foreign", lun.preempt_foreign);
}

fn write_filesystem(out: &mut String, filesystem: &FilesystemResource) {
    line(out, "device", filesystem.device.as_str());
    line(out, "mount", filesystem.mount.as_str());
    line(out, "type", filesystem.filesystem.as_str());
    line(out, "options", filesystem.options.clone());
    line(out, "fsck", filesystem.fsck);
    line(out, "unfenced", filesystem.unfenced);
}

fn line(out: &mut String, key: &str, value: impl Into<Value>) {
    // Writing into a String does not fail.
    let _ = writeln!(out, "{key} = {}", value.into());
}

/// What an update changes, line by line, as a unified difference of the two files.
pub fn diff(old: &Package, new: &Package) -> String {
    let (old, new) = (to_toml(old), to_toml(new));
    let changes = similar::TextDiff::from_lines(old.as_str(), new.as_str());
    changes.unified_diff().context_radius(2).header("stored", "new").to_string()
}

/// Why an update would restart resources that run, a sentence each; empty when it would not.
pub fn restart_needed(old: &Package, new: &Package) -> Vec<String> {
    let mut reasons = Vec::new();
    for was in &old.resources {
        match new.resources.iter().find(|r| r.name == was.name) {
            None => reasons.push(format!("resource '{}' is taken out", was.name)),
            Some(is) if !runs_alike(was, is) => reasons.push(format!("resource '{}' is changed", was.name)),
            Some(_) => {}
        }
    }
    let added = new.resources.iter().filter(|r| !old.resources.iter().any(|o| o.name == r.name));
    reasons.extend(added.map(|r| format!("resource '{}' is added", r.name)));
    if reasons.is_empty() && !same_order(old, new) {
        reasons.push("the order of the resources is changed".to_owned());
    }
    reasons
}

fn same_order(old: &Package, new: &Package) -> bool {
    old.resources.iter().map(|r| &r.name).eq(new.resources.iter().map(|r| &r.name))
}

/// Whether a resource that runs by one definition runs by the other too. Timeouts, the stop signal, the restart policy,
/// and what matters only when a LUN is taken or a filesystem mounted take effect without a restart.
pub fn runs_alike(was: &Resource, is: &Resource) -> bool {
    match (&was.kind, &is.kind) {
        (Kind::Ip(was), Kind::Ip(is)) => was == is,
        (Kind::Program(was), Kind::Program(is)) => {
            was.command == is.command
                && was.user == is.user
                && was.working_directory == is.working_directory
                && was.environment == is.environment
        }
        (Kind::Lun(was), Kind::Lun(is)) => was.device == is.device,
        (Kind::Filesystem(was), Kind::Filesystem(is)) => {
            was.device == is.device
                && was.mount == is.mount
                && was.filesystem == is.filesystem
                && was.options == is.options
        }
        (Kind::Ip(_) | Kind::Program(_) | Kind::Lun(_) | Kind::Filesystem(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::parse;

    const FILE: &str = r#"name = "p"
description = "a \"quoted\" text"
nodes = ["n1", "n2"]
[[resource]]
kind = "ip"
address = "fd00::7/64"
device = "eth0"
[[resource]]
kind = "program"
command = ["/bin/x", "-f", "a b"]
user = "www-data"
environment = { LANG = "C", "X" = "new\nline" }
stop_signal = "SIGINT"
restart_window = "1m30s"
stop_timeout = "1500ms"
"#;

    fn package() -> Package {
        parse("p", FILE).unwrap()
    }

    #[test]
    fn a_definition_written_out_reads_back_the_same() {
        assert_eq!(parse("p", &to_toml(&package())).unwrap(), package());
        assert_eq!(check(&package()), Vec::<String>::new());
    }

    #[test]
    fn a_definition_from_elsewhere_is_checked_like_a_file() {
        let mut bad = package();
        let Kind::Program(program) = &mut bad.resources[1].kind else { panic!("not a program") };
        program.command = vec!["x".into()];
        program.environment.insert("PKG_TOKEN".into(), "1".into());
        assert_eq!(check(&bad).len(), 2, "{:?}", check(&bad));
    }

    #[test]
    fn only_what_a_running_resource_cannot_take_up_needs_a_restart() {
        let mut new = package();
        new.nodes.pop();
        new.resources[1].stop_timeout = super::super::Millis(7000);
        let Kind::Program(program) = &mut new.resources[1].kind else { panic!("not a program") };
        program.restarts = 9;
        assert_eq!(restart_needed(&package(), &new), Vec::<String>::new());
        let Kind::Program(program) = &mut new.resources[1].kind else { panic!("not a program") };
        program.command.push("-v".into());
        assert_eq!(restart_needed(&package(), &new), ["resource 'program' is changed"]);
        new.resources.swap(0, 1);
        assert!(!restart_needed(&package(), &new).is_empty());
    }

    #[test]
    fn a_difference_shows_the_lines() {
        let mut new = package();
        new.nodes.pop();
        let text = diff(&package(), &new);
        assert!(text.contains("-nodes = [\"n1\", \"n2\"]") && text.contains("+nodes = [\"n1\"]"), "{text}");
    }
}
