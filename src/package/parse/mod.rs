//! A package file becomes a [`Package`], or every problem of the file at once. docs/package-file.md is its reference.
//!
//! - `resource`: one `[[resource]]`, whatever its kind.
//! - `ip`, `program`, `lun`, `filesystem`: the keys of each kind.
//! - `devices`: what only the whole file shows of devices and mount points.
//! - `signal`: signals by name or number.

mod devices;
pub mod filesystem;
pub mod ip;
pub mod lun;
pub mod program;
pub mod resource;
pub mod signal;

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::file::keys::{kind_of, name};
use super::file::sheet::too_large;
use super::file::{Keys, Report, Sheet};
use super::problem::{Problems, quoted};
use super::text::to_toml;
use super::{NodeName, Package, PackageName};

/// Keys of the file outside its resources.
pub const KEYS: &[&str] = &["name", "description", "nodes", "resource"];
/// Longest definition, written out as a file. It bounds the record that the log stores: values of 64 KiB and more go
/// into files of their own there, which sled never syncs.
pub const DEFINITION_MAX_BYTES: usize = 48 << 10;
/// Most nodes in a package's list.
pub const NODES_MAX: usize = 64;
/// Most resources in a package.
pub const RESOURCES_MAX: usize = 64;

const NAME: &str = "name = \"testpkg1\"";
const NODES: &str = "nodes = [\"n1\", \"n2\"]";
const RESOURCE: &str = "[[resource]]";

/// Reads a package file; `file_name` is what the operator calls it and appears in every problem.
///
/// # Errors
/// Everything that is wrong with the file, in the order of its lines.
pub fn parse(file_name: &str, text: &str) -> Result<Package, Problems> {
    let package = read(Sheet::read(file_name, text)?)?;
    let bytes = to_toml(&package).len();
    if bytes > DEFINITION_MAX_BYTES {
        let what = format!("the definition has {bytes} bytes when written out; at most {DEFINITION_MAX_BYTES} can be");
        return Err(too_large(file_name, &what));
    }
    Ok(package)
}

/// Reads a definition written out by [`to_toml`]: longer than a file, because every default stands in it.
///
/// # Errors
/// As [`parse`].
pub fn parse_definition(text: &str) -> Result<Package, Problems> {
    read(Sheet::read_within("definition", text, DEFINITION_MAX_BYTES)?)
}

fn read(sheet: Sheet) -> Result<Package, Problems> {
    let table = sheet.table();
    let mut report = Report::default();
    let keys = Keys::new(table.get_ref(), 0..0, "a package");
    let package = package(&keys, &mut report);
    match (package, report.finish(&sheet)) {
        (Some(package), None) => Ok(package),
        (_, Some(problems)) => Err(problems),
        (None, None) => Err(sheet.unreadable()),
    }
}

fn package(keys: &Keys<'_>, report: &mut Report) -> Option<Package> {
    keys.check(KEYS, belongs_to_a_resource, report);
    let package_name = keys.need_text("name", NAME, report).and_then(|given| name::<PackageName>(&given, report));
    let description = keys.text("description", "description = \"what it is for\"", report);
    let nodes = nodes(keys, report);
    let resources = resources(keys, report);
    Some(Package {
        name: package_name?,
        description: description.map(|d| (*d.get_ref()).to_owned()).unwrap_or_default(),
        nodes: nodes?,
        resources: resources?,
    })
}

fn belongs_to_a_resource(key: &str) -> Option<String> {
    resource::is_key(key).then(|| format!("move it below the {RESOURCE} it belongs to"))
}

fn nodes(keys: &Keys<'_>, report: &mut Report) -> Option<Vec<NodeName>> {
    keys.need("nodes", NODES, report)?;
    let given = keys.texts("nodes", NODES, report)?;
    if given.get_ref().is_empty() {
        let remedy = format!("name the nodes that may own it, the preferred one first: {NODES}");
        report.add(given.span(), "'nodes' is empty: no node could ever own the package", remedy);
        return None;
    }
    if given.get_ref().len() > NODES_MAX {
        let what = format!("{} nodes are listed; at most {NODES_MAX} can be", given.get_ref().len());
        report.add(given.span(), what, "list only nodes that may own this package");
    }
    let mut seen = BTreeMap::new();
    let mut nodes = Vec::new();
    for one in given.get_ref() {
        if seen.insert(*one.get_ref(), ()).is_some() {
            let what = format!("node {} is listed twice", quoted(one.get_ref()));
            report.add(one.span(), what, "list it once, in the place of its preference");
        }
        nodes.push(name::<NodeName>(one, report));
    }
    nodes.into_iter().collect()
}

fn resources(keys: &Keys<'_>, report: &mut Report) -> Option<Vec<super::Resource>> {
    let example = format!("{RESOURCE} and below it kind = \"ip\" or kind = \"program\"");
    let value = keys.need("resource", &example, report)?;
    let DeValue::Array(elements) = value.get_ref() else {
        let what = format!("'resource' must be a list of tables, not {}", kind_of(value.get_ref()));
        report.add(value.span(), what, format!("write {RESOURCE}, with two brackets, above each resource"));
        return None;
    };
    if elements.is_empty() {
        report.add(value.span(), "a package needs at least one resource", format!("write {example}"));
        return None;
    }
    if elements.len() > RESOURCES_MAX {
        let what = format!("the package has {} resources; at most {RESOURCES_MAX} are possible", elements.len());
        report.add(value.span(), what, "split it into several packages");
    }
    let mut tables = Vec::new();
    for element in elements {
        match element.get_ref() {
            DeValue::Table(table) => tables.push(Keys::new(table, element.span(), "a resource")),
            other => {
                let what = format!("a resource must be a table, not {}", kind_of(other));
                report.add(element.span(), what, format!("write {RESOURCE} above each resource"));
            }
        }
    }
    resource::read_all(tables, report)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
