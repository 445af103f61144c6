//! Package files, good and bad.

use super::*;
use crate::package::Kind;

const GOOD: &str = r#"name = "testpkg1"
nodes = ["n1", "n2"]

[[resource]]
kind = "ip"
address = "10.0.0.100/24"
device = "eth0"

[[resource]]
kind = "program"
command = ["/usr/sbin/x", "-f"]
"#;

fn problems(text: &str) -> Problems {
    parse("testpkg1.toml", text).expect_err("it is bad")
}

/// The lines of the problems found.
fn lines(text: &str) -> Vec<usize> {
    problems(text).problems.iter().map(|p| p.line).collect()
}

#[test]
fn ten_lines_are_enough_for_an_address_and_a_program() {
    let package = parse("testpkg1.toml", GOOD).unwrap();
    assert_eq!(package.name.as_str(), "testpkg1");
    let names: Vec<_> = package.resources.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["ip", "program"]);
    let Kind::Program(program) = &package.resources[1].kind else { panic!("not a program") };
    assert_eq!((program.stop_signal, program.restarts), (15, 3));
}

#[test]
fn every_problem_of_a_file_is_reported_at_once_with_its_line() {
    let bad = r#"name = "test pkg"
nodes = []
colour = "red"
[[resource]]
kind = "ip"
adress = "10.0.0.100/24"
device = "a-very-long-interface"
[[resource]]
kind = "program"
command = "x -f"
stop_signal = "SIGNONE"
start_timeout = "5"
"#;
    let found = problems(bad);
    assert_eq!(lines(bad), [1, 2, 3, 4, 6, 7, 10, 11, 12], "{found}");
    let text = found.to_string();
    assert!(text.contains("did you mean 'address'?"), "{text}");
}

#[test]
fn a_broken_line_does_not_hide_the_problems_after_it() {
    let bad = GOOD.replace("nodes = [\"n1\", \"n2\"]", "nodes = [\"n1\", \"n2\"").replace("eth0", "");
    let found = lines(&bad);
    assert!(found.len() >= 2 && found[0] == 2, "{}", problems(&bad));
}

#[test]
fn a_kind_of_a_later_version_says_so() {
    let text = problems(&GOOD.replace("kind = \"ip\"", "kind = \"ocf\"")).to_string();
    assert!(text.contains("later version"), "{text}");
}

#[test]
fn a_key_of_the_other_kind_is_told_where_it_belongs() {
    let text = problems(&GOOD.replace("device = \"eth0\"", "device = \"eth0\"\nuser = \"x\"")).to_string();
    assert!(text.contains("only a program resource has it"), "{text}");
}

#[test]
fn resources_of_one_kind_are_numbered_and_names_are_unique() {
    let more = format!("{GOOD}\n[[resource]]\nkind = \"program\"\ncommand = [\"/bin/y\"]\n");
    let package = parse("p", &more).unwrap();
    assert_eq!(package.resources[2].name.as_str(), "program-2");
    let twice = more.replace("kind = \"program\"", "kind = \"program\"\nname = \"web\"");
    assert!(problems(&twice).to_string().contains("'web' already"));
}

#[test]
fn one_address_cannot_float_twice() {
    let again = "\n[[resource]]\nkind = \"ip\"\naddress = \"10.0.0.100/24\"\ndevice = \"eth1\"\n";
    assert!(problems(&format!("{GOOD}{again}")).to_string().contains("already"));
}

/// Each kind of slip: what is replaced in the good file by what, and the line and words that must come of it. Every one
/// yields exactly one problem: what a slip breaks besides itself is not the operator's.
const SLIPS: &[(&str, &str, usize, &str)] = &[
    ("name = \"testpkg1\"\n", "\n", 1, "needs 'name'"),
    ("\"testpkg1\"", "\"-x\"", 1, "is not a name"),
    ("\"testpkg1\"", "7", 1, "'name' must be text, not an integer"),
    ("\"testpkg1\"", "testpkg1", 1, "write name = \"testpkg1\""),
    ("\"testpkg1\"", "\"testpkg1", 1, "closing quote"),
    ("name = ", "name: ", 1, "write name = \"testpkg1\""),
    ("name = ", "name ", 1, "key = value"),
    ("\"testpkg1\"", "\"a\\u0000b\"", 1, "NUL byte"),
    ("\"n1\", \"n2\"", "\"n1\", \"n1\"", 2, "listed twice"),
    ("\"n1\", \"n2\"", "", 2, "no node could ever own"),
    ("\"n1\", \"n2\"", "\"n1\", 2", 2, "'nodes' must be text, not an integer"),
    ("[\"n1\", \"n2\"]", "\"n1\"", 2, "must be a list"),
    ("\"n2\"]", "\"n2\"", 2, "end it with ]"),
    ("\"n1\", \"n2\"]", "\n\"n1\",\n\"n2\" # both\n", 2, "end it with ]"),
    ("[[resource]]\nkind = \"ip\"", "[[resource\nkind = \"ip\"", 4, "write [[resource]]"),
    ("kind = \"ip\"\n", "\n", 4, "needs 'kind'"),
    ("kind = \"ip\"", "kind = \"IP\"", 5, "did you mean 'ip'?"),
    ("kind = \"ip\"", "kind = \"volume_group\"", 5, "later version"),
    ("address = ", "adress = ", 7, "did you mean 'address'?"),
    ("10.0.0.100/24", "10.0.0.100", 6, "\"10.0.0.100/24\""),
    ("\"10.0.0.100/24\"", "10.0.0.100/24", 6, "write address = \"10.0.0.100/24\""),
    ("\"eth0\"", "\"eth0/1\"", 7, "not an interface name"),
    ("\"eth0\"", "\"lo\"", 7, "loopback"),
    ("\"eth0\"", "\"sixteen-letters-\"", 7, "longer than"),
    ("\"eth0\"", "\"eth0\"\nnodes = [\"n1\"]", 8, "above the first [[resource]]"),
    ("\"eth0\"", "\"eth0\"\nstart_timeout = 30", 8, "write start_timeout = \"30s\""),
    ("\"eth0\"", "\"eth0\"\nstop_timeout = \"100d\"", 8, "between 100ms and 1day"),
    ("[\"/usr/sbin/x\", \"-f\"]", "\"/usr/sbin/x -f\"", 11, "write command = [\"/usr/sbin/x\", \"-f\"]"),
    ("\"/usr/sbin/x\", \"-f\"", "", 11, "is empty"),
    ("\"/usr/sbin/x\"", "\"x\"", 11, "command -v x"),
    ("\"-f\"", "\"\\u0000\"", 11, "NUL byte"),
    ("\"-f\"]", "\"-f\"", 11, "end it with ]"),
    ("\"-f\"]", "\"-f\"]\nuser = \"a:b\"", 12, "no user's name"),
    ("\"-f\"]", "\"-f\"]\nstop_signal = \"SIGKIL\"", 12, "no signal"),
    ("\"-f\"]", "\"-f\"]\nstop_signal = 0", 12, "no signal"),
    ("\"-f\"]", "\"-f\"]\nrestarts = -1", 12, "from 0 to 1000"),
    ("\"-f\"]", "\"-f\"]\nworking_directory = \"srv\"", 12, "absolute"),
    ("\"-f\"]", "\"-f\"]\nenvironment = { PKG_TOKEN = \"1\" }", 12, "keeps for itself"),
    ("\"-f\"]", "\"-f\"]\nenvironment = { A = 1 }", 12, "write A = \"1\""),
    ("\"-f\"]", "\"-f\"]\nenvironment = { A = \"1\"", 12, "end it with }"),
    ("\"-f\"]", "\"-f\"]\nkind = \"ip\"", 12, "stands here already"),
];

#[test]
fn every_slip_yields_one_problem_with_its_line_and_remedy() {
    for (from, to, line, words) in SLIPS {
        assert!(GOOD.contains(from), "{from}");
        let bad = GOOD.replacen(from, to, 1);
        let found = problems(&bad);
        let text = found.to_string();
        // A key misspelt is two facts on one line of the file: the key not known and the one missing.
        let misspelt = usize::from(*words == "did you mean 'address'?");
        assert_eq!(found.count(), 1 + misspelt, "{bad}\n{text}");
        assert!(text.contains(words), "'{words}' is not in\n{text}");
        if misspelt == 0 {
            assert_eq!(found.problems[0].line, *line, "{text}");
        }
    }
}

#[test]
fn slips_in_one_file_do_not_hide_each_other() {
    let slips = ["name: testpkg1", "nodes = [n1, \"n2\"", "", "[[resource", "kind = \"ip\"", "address = 10.0.0.100/24"];
    let more =
        ["device = \"eth0:1\"", "[[resource]]", "kind = \"program\"", "command = [", "\"/bin/x\"", "user = \"a b\""];
    let end = ["environment = { A = \"1\"", "stop_signal = \"STOP\"", "[[resource]]", "kind = \"ocf\""];
    let bad = [&slips[..], &more[..], &end[..]].concat().join("\n");
    assert_eq!(lines(&bad), [1, 2, 4, 6, 7, 10, 12, 13, 14, 16], "{}", problems(&bad));
}

#[test]
fn one_address_is_found_twice_even_where_its_resource_is_bad() {
    let again = "\n[[resource]]\nkind = \"ip\"\naddress = \"10.0.0.100/16\"\ndevice = \"\"\n";
    assert_eq!(lines(&format!("{GOOD}{again}")), [15, 16]);
}

/// As many resources as can be, and as large a description as the file's limit leaves room for.
fn largest(filling: &str) -> String {
    let resource = "[[resource]]\nkind = \"program\"\ncommand = [\"/x\"]\n".repeat(RESOURCES_MAX);
    let text = format!("name = \"p\"\nnodes = [\"n1\"]\n{resource}");
    let rest = crate::package::file::sheet::FILE_MAX_BYTES - text.len() - 30;
    format!("description = \"{}\"\n{text}", filling.repeat(rest / filling.len()))
}

#[test]
fn the_largest_file_gives_a_definition_that_every_check_accepts() {
    let package = parse("p", &largest("d")).unwrap();
    assert_eq!(crate::package::check(&package), Vec::<String>::new());
}

#[test]
fn the_largest_definition_fits_into_a_record_of_the_store() {
    // The store keeps values of 64 KiB and more in files of their own, which it never syncs.
    const RECORD_MAX_BYTES: usize = 64 << 10;
    let package = parse("p", &largest("d")).unwrap();
    assert!(rmp_serde::to_vec_named(&package).unwrap().len() < RECORD_MAX_BYTES * 3 / 4);
}

#[test]
fn a_definition_that_outgrows_its_limit_when_written_out_is_refused_with_its_file() {
    // An escape character takes two bytes here and six when it is written out.
    let found = problems(&largest("\\e"));
    assert!(found.to_string().contains("written out"), "{found}");
}

#[test]
fn a_thousand_problems_are_counted_and_fifty_told() {
    let found = problems(&"x = 1\n".repeat(1000));
    assert_eq!(found.problems.len(), crate::package::problem::PROBLEMS_MAX);
    assert!(found.count() >= 999, "{found}");
}

const STORED: &str = r#"name = "db"
nodes = ["n1", "n2"]

[[resource]]
kind = "lun"
device = "/dev/disk/by-id/wwn-0x5000"

[[resource]]
kind = "filesystem"
device = "/dev/disk/by-id/wwn-0x5000-part1"
mount = "/srv/db"
type = "ext4"
options = ["noatime"]
"#;

#[test]
fn a_filesystem_on_a_lun_needs_no_more_than_its_place() {
    let package = parse("db.toml", STORED).unwrap();
    let Kind::Filesystem(filesystem) = &package.resources[1].kind else { panic!("not a filesystem") };
    assert_eq!((filesystem.fsck, filesystem.unfenced, filesystem.options.len()), (false, false, 1));
    let Kind::Lun(lun) = &package.resources[0].kind else { panic!("not a lun") };
    assert!(lun.abort && !lun.preempt_foreign);
    assert_eq!(crate::package::check(&package), Vec::<String>::new());
    assert!(package.resources.iter().all(|resource| crate::package::is_fenced(&package, resource)));
}

#[test]
fn a_filesystem_on_no_lun_must_say_that_nothing_fences_it() {
    let bare = STORED.replace("[[resource]]\nkind = \"lun\"\ndevice = \"/dev/disk/by-id/wwn-0x5000\"\n", "");
    let found = problems(&bare);
    assert_eq!((found.count(), found.problems[0].line), (1, 7), "{found}");
    assert!(found.to_string().contains("keep a node whose lease has ended from writing"), "{found}");
    let package = parse("p", &format!("{bare}unfenced = true\n")).unwrap();
    assert!(!crate::package::is_fenced(&package, &package.resources[0]));
}

/// As [`SLIPS`], of the file with storage.
const STORED_SLIPS: &[(&str, &str, usize, &str)] = &[
    ("options = [\"noatime\"]\n", "unfenced = true\n", 13, "lies on a lun of this package"),
    ("[\"noatime\"]", "\"noatime\"", 13, "must be a list"),
    ("[\"noatime\"]", "[\"noatime,nodev\"]", 13, "\"noatime\", \"nodev\""),
    ("[\"noatime\"]", "[\"_netdev\"]", 13, "for fstab"),
    ("[\"noatime\"]", "[\"\"]", 13, "no mount option"),
    ("\"ext4\"", "\"nfs\"", 12, "not the type of a filesystem on a block device"),
    ("\"ext4\"", "\"EXT 4\"", 12, "no filesystem's name"),
    ("type = \"ext4\"\n", "type = \"ext4\"\nfsck = \"yes\"\n", 13, "write fsck = true"),
    ("\"/srv/db\"", "\"srv/db\"", 11, "absolute"),
    ("\"/srv/db\"", "\"/srv//db\"", 11, "shortest way"),
    ("\"/srv/db\"", "\"/\"", 11, "system's own"),
    ("\"/srv/db\"", "\"/proc/x\"", 11, "system's own"),
    ("\"/srv/db\"", "\"/srv/my db\"", 11, "blank"),
    ("mount = \"/srv/db\"\n", "\n", 8, "needs 'mount'"),
    (
        "device = \"/dev/disk/by-id/wwn-0x5000\"\n",
        "device = \"/dev/disk/by-id/wwn-0x5000\"\nmount = \"/x\"\n",
        7,
        "only a filesystem resource",
    ),
    (
        "device = \"/dev/disk/by-id/wwn-0x5000\"\n",
        "device = \"/dev/disk/by-id/wwn-0x5000\"\nabort = 1\n",
        7,
        "true or false",
    ),
];

#[test]
fn every_slip_about_storage_yields_one_problem_with_its_line_and_remedy() {
    for (from, to, line, words) in STORED_SLIPS {
        assert!(STORED.contains(from), "{from}");
        let found = problems(&STORED.replacen(from, to, 1));
        let text = found.to_string();
        assert_eq!((found.count(), found.problems[0].line), (1, *line), "{text}");
        assert!(text.contains(words), "'{words}' is not in\n{text}");
    }
}

#[test]
fn what_only_the_whole_file_shows_of_devices_is_told() {
    let second = "[[resource]]\nkind = \"filesystem\"\nunfenced = true\ntype = \"xfs\"\n";
    for (more, words) in [
        (format!("{second}device = \"/dev/vg/x\"\nmount = \"/srv/db\"\n"), "mount point of an earlier resource"),
        (format!("{second}device = \"/dev/vg/x\"\nmount = \"/srv\"\n"), "would hide '/srv/db'"),
        (
            "[[resource]]\nkind = \"lun\"\ndevice = \"/dev/disk/by-id/wwn-0x5000-part1\"\n".to_owned(),
            "of an earlier lun",
        ),
    ] {
        let found = problems(&format!("{STORED}{more}"));
        assert_eq!(found.count(), 1, "{found}");
        assert!(found.to_string().contains(words), "{found}");
    }
    let (head, tail) = STORED.split_at(STORED.find("[[resource]]").unwrap());
    let (lun, filesystem) = tail.split_at(tail.rfind("[[resource]]").unwrap());
    let found = problems(&format!("{head}{filesystem}{lun}"));
    assert!(found.count() == 1 && found.to_string().contains("put the lun above the filesystem"), "{found}");
}
