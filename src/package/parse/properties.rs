//! Properties of the parser: it never panics, it is never silent, and it reads back what it wrote.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::signal::by_number;
use crate::package::parse::{RESOURCES_MAX, parse, program, resource};
use crate::package::{
    FilesystemResource, IpResource, Kind, LunResource, Millis, NodeName, Package, PackageName, ProgramResource,
    Resource, ResourceName, check, to_toml,
};

const FULL: &str = include_str!("../../../pkg-templates/template.toml");

/// The template with all its settings taken out of their comments.
fn full() -> String {
    FULL.lines().map(|l| l.strip_prefix("#= ").unwrap_or(l).to_owned() + "\n").collect()
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}"
}

/// Text without NUL bytes; everything else may stand in a file.
fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|s| s.replace('\0', ""))
}

fn millis(from: Millis, to: Millis) -> impl Strategy<Value = Millis> {
    (from.0..=to.0).prop_map(Millis)
}

fn ip() -> impl Strategy<Value = Kind> {
    let v4 = (1u8..=30, any::<[u8; 2]>()).prop_map(|(host, [b, c])| {
        let address = std::net::Ipv4Addr::new(10, b, c, host).into();
        IpResource { address, prefix: 24, device: String::new() }
    });
    let v6 = (any::<u64>(), 1u8..=128).prop_map(|(low, prefix)| {
        let address = std::net::Ipv6Addr::from((0xfd00_u128 << 112) | u128::from(low)).into();
        IpResource { address, prefix, device: String::new() }
    });
    (prop_oneof![v4, v6], "[a-z][a-z0-9._-]{1,14}")
        .prop_filter("the loopback interface is refused", |(_, device)| device != "lo")
        .prop_map(|(ip, device)| Kind::Ip(IpResource { device, ..ip }))
}

fn program() -> impl Strategy<Value = Kind> {
    let command = (text(), prop::collection::vec(text(), 0..4));
    let user = prop::option::of(prop_oneof!["[a-z_][a-z0-9_-]{0,31}", (0..u32::MAX).prop_map(|n| n.to_string())]);
    let directory = prop::option::of(text().prop_map(|t| format!("/{t}")));
    let variable = "[a-zA-Z_][a-zA-Z0-9_]{0,20}".prop_filter("kept", |v| !v.starts_with(program::OWN_PREFIX));
    let environment = prop::collection::btree_map(variable, text(), 0..4);
    let signal = (1..=64).prop_filter_map("ends a program", by_number);
    let window = millis(program::RESTART_WINDOW_MIN, program::RESTART_WINDOW_MAX);
    let parts = (command, user, directory, environment, signal, 0..=program::RESTARTS_MAX, window);
    parts.prop_map(|((path, mut rest), user, working_directory, environment, stop_signal, restarts, restart_window)| {
        rest.insert(0, format!("/{path}x"));
        let command = rest;
        let (user, environment): (_, BTreeMap<String, String>) = (user, environment);
        Kind::Program(ProgramResource {
            command,
            user,
            working_directory,
            environment,
            stop_signal,
            restarts,
            restart_window,
        })
    })
}

fn lun() -> impl Strategy<Value = Kind> {
    ("[a-z]{1,12}", any::<bool>(), any::<bool>()).prop_map(|(name, abort, preempt_foreign)| {
        Kind::Lun(LunResource { device: format!("/dev/mapper/{name}"), abort, preempt_foreign })
    })
}

fn filesystem() -> impl Strategy<Value = Kind> {
    let options = prop::collection::vec("[a-z]{2,8}=[^,\\s\\p{C}]{0,8}", 0..4);
    ("[a-z]{1,12}", "[a-z]{1,12}", "ext4|xfs|btrfs", options, any::<bool>()).prop_map(
        |(name, directory, filesystem, options, fsck)| {
            let (device, mount) = (format!("/dev/disk/by-id/{name}"), format!("/srv/{directory}"));
            Kind::Filesystem(FilesystemResource { device, mount, filesystem, options, fsck, unfenced: true })
        },
    )
}

fn a_resource() -> impl Strategy<Value = Resource> {
    let timeout = || millis(resource::TIMEOUT_MIN, resource::TIMEOUT_MAX);
    let kind = prop_oneof![ip(), program(), lun(), filesystem()];
    (name(), timeout(), timeout(), kind).prop_map(|(name, start_timeout, stop_timeout, kind)| Resource {
        name: ResourceName::new(name).unwrap(),
        start_timeout,
        stop_timeout,
        kind,
    })
}

/// Any definition that a file can give.
fn package() -> impl Strategy<Value = Package> {
    let nodes = prop::collection::btree_set(name(), 1..5);
    let resources = prop::collection::vec(a_resource(), 1..RESOURCES_MAX.min(5));
    (name(), text(), nodes, resources).prop_map(|(name, description, nodes, mut resources)| {
        let mut names = std::collections::BTreeSet::new();
        resources.retain(|r| names.insert(r.name.clone()));
        let mut addresses = std::collections::BTreeSet::new();
        let mut paths = std::collections::BTreeSet::new();
        resources.retain(|r| match &r.kind {
            Kind::Ip(ip) => addresses.insert(ip.address),
            Kind::Program(_) => true,
            Kind::Lun(lun) => paths.insert(lun.device.clone()),
            Kind::Filesystem(fs) => paths.insert(fs.device.clone()) && paths.insert(fs.mount.clone()),
        });
        Package {
            name: PackageName::new(name).unwrap(),
            description,
            nodes: nodes.into_iter().map(|n| NodeName::new(n).unwrap()).collect(),
            resources,
        }
    })
}

/// Whether a verdict is one an operator can use: a definition that reads back, or problems with places in the text.
fn assert_usable(text: &str) {
    match parse("p", text) {
        Ok(package) => assert_eq!(parse("p", &to_toml(&package)).as_ref(), Ok(&package)),
        Err(problems) => {
            assert!(problems.count() > 0);
            let lines = text.split('\n').count();
            for problem in &problems.problems {
                assert!((1..=lines).contains(&problem.line), "line {} of {lines}: {problems}", problem.line);
                assert!(problem.column >= 1 && !problem.what.is_empty() && !problem.remedy.is_empty());
            }
            let shown = problems.to_string();
            assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        }
    }
}

/// The same cases in every run: a failure is found by everyone or by no one.
fn seeded() -> ProptestConfig {
    ProptestConfig {
        cases: 256,
        rng_seed: RngSeed::Fixed(7420),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn every_definition_reads_back_from_its_own_text(package in package()) {
        let text = to_toml(&package);
        let read = parse("p", &text);
        prop_assert_eq!(read.as_ref(), Ok(&package), "{}", text);
        prop_assert_eq!(check(&package), Vec::<String>::new());
    }

    #[test]
    fn arbitrary_text_has_a_usable_verdict(text in any::<String>()) {
        assert_usable(&text);
    }

    #[test]
    fn text_of_the_right_characters_has_a_usable_verdict(text in "[\\[\\]{}=\"'#,\\.\\\\a-c0-2\\n\\r \t]{0,120}") {
        assert_usable(&text);
    }

    #[test]
    fn a_good_file_with_a_piece_cut_out_or_put_in_has_a_usable_verdict(
        from in any::<prop::sample::Index>(),
        cut in 0usize..40,
        put in "[\\[\\]{}=\"'#,\\\\\\PC\\n]{0,4}",
    ) {
        let mut text: Vec<char> = full().chars().collect();
        let from = from.index(text.len());
        let to = (from + cut).min(text.len());
        text.splice(from..to, put.chars());
        assert_usable(&text.into_iter().collect::<String>());
    }

    #[test]
    fn a_good_file_with_two_lines_swapped_has_a_usable_verdict(a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let text = full();
        let mut lines: Vec<&str> = text.lines().collect();
        let (a, b) = (a.index(lines.len()), b.index(lines.len()));
        lines.swap(a, b);
        assert_usable(&lines.join("\n"));
    }
}
