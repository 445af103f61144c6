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
    let text = problems(&GOOD.replace("kind = \"ip\"", "kind = \"lun\"")).to_string();
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

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics_and_always_has_a_verdict(text in "\\PC{0,400}") {
        if let Err(problems) = parse("p", &text) {
            proptest::prop_assert!(problems.count() > 0);
        }
    }

    #[test]
    fn a_good_file_with_one_character_replaced_never_panics(at in 0usize..200, with in proptest::char::any()) {
        let mut text: Vec<char> = GOOD.chars().collect();
        let at = at % text.len();
        text[at] = with;
        let _ = parse("p", &text.into_iter().collect::<String>());
    }
}
