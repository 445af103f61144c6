//! The tree by itself.

use proptest::prelude::*;

use super::*;
use crate::engine::LogIndex;
use crate::engine::codec::{decode, encode};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn put(name: &str, value: &str) -> Change {
    Change::Put { key: key(name), value: value.into() }
}

fn then(changes: Vec<Change>) -> Txn {
    Txn { then: changes, ..Txn::default() }
}

fn tree(items: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::default();
    for (index, (name, value)) in (1..).zip(items) {
        tree.carry_out(&then(vec![put(name, value)]), LogIndex(index)).unwrap();
    }
    tree
}

fn keys(tree: &Tree, range: &Range) -> Vec<String> {
    tree.range(range).map(|(key, _)| key.to_string()).collect()
}

#[test]
fn a_key_is_a_path_of_names_and_a_leading_slash_is_dropped() {
    assert_eq!(key("/app/db/url"), key("app/db/url"));
    for (bad, why) in [
        ("", "at least one name"),
        ("/", "at least one name"),
        ("a//b", "one / between two names"),
        ("a/", "none at the end"),
        ("a/../b", "no names"),
        ("a\nb", "control characters"),
        (&"k".repeat(1025), "1025 bytes"),
    ] {
        let said = Key::new(bad).unwrap_err().to_string();
        assert!(said.contains(why), "{bad:?}: {said}");
    }
}

#[test]
fn a_range_is_a_directory_an_interval_or_everything() {
    let tree = tree(&[("a", "1"), ("a/b", "2"), ("a/b/c", "3"), ("a-b", "4"), ("ab", "5"), ("b", "6")]);
    let between = |from: Option<&str>, to: Option<&str>| Range::Between { from: from.map(key), to: to.map(key) };
    assert_eq!(keys(&tree, &Range::Below(key("a"))), ["a/b", "a/b/c"]);
    assert_eq!(keys(&tree, &between(Some("a/b"), Some("ab"))), ["a/b", "a/b/c"]);
    assert_eq!(keys(&tree, &between(None, Some("a/b"))), ["a", "a-b"]);
    assert_eq!(keys(&tree, &between(Some("b"), Some("a"))), [""; 0]);
    assert_eq!(keys(&tree, &between(Some("a"), Some("a"))), [""; 0]);
    assert_eq!(keys(&tree, &Range::All).len(), 6);
    for one in ["a", "a/b", "ab"] {
        assert_eq!(keys(&tree, &Range::only(key(one))), [one]);
    }
    for range in [Range::All, Range::Below(key("a")), between(Some("a/b"), Some("ab")), between(None, Some("a/b"))] {
        let contained: Vec<String> =
            tree.range(&Range::All).map(|(key, _)| key).filter(|key| range.contains(key)).map(Key::to_string).collect();
        assert_eq!(contained, keys(&tree, &range), "{range:?}");
    }
}

#[test]
fn numbers_compare_as_numbers_of_any_length_and_the_rest_as_bytes() {
    let holds = |left: &str, sign: &str, right: &str| {
        sign.parse::<Compare>().unwrap().holds(compare::order(left.as_bytes(), right.as_bytes()))
    };
    for (left, sign, right) in [
        ("9", "<", "10"),
        ("-9", ">", "-10"),
        ("007", "=", "7.0"),
        ("-0", "=", "0"),
        ("0.1", "<", ".15"),
        ("1.05", "<", "1.5"),
        (" 5\n", "=", "5"),
        ("123456789012345678901234567890", "<", "123456789012345678901234567891"),
        ("9a", ">", "10a"),
        ("", "<", "0"),
        ("1e3", "!=", "1000"),
        ("X", "=", "X"),
    ] {
        assert!(holds(left, sign, right), "{left} {sign} {right}");
    }
}

#[test]
fn a_condition_that_does_not_hold_is_named_with_what_was_found_and_the_other_changes_are_made() {
    let mut tree = tree(&[("k", "5")]);
    let condition = |test| Condition { key: key("k"), test };
    let txn = Txn {
        when: vec![condition(Test::Exists), condition(Test::Value(Compare::Greater, "10".into()))],
        then: vec![put("k", "11")],
        otherwise: vec![put("log", "too small")],
        ..Txn::default()
    };
    let (outcome, touched) = tree.carry_out(&txn, LogIndex(7)).unwrap();
    let found = Some(Kept { value: "5".into(), revision: LogIndex(1) });
    assert_eq!(outcome.unmet, Some(Unmet { at: 1, key: key("k"), found }));
    assert_eq!((outcome.changed, touched), (vec![Changed::Put { replaced: None }], vec![key("log")]));
    assert_eq!(tree.get(&key("k")).unwrap().value, "5".into());

    let absent = |test| Condition { key: key("no"), test };
    for (test, holds) in [
        (Test::Absent, true),
        (Test::Exists, false),
        (Test::Value(Compare::NotEqual, "x".into()), false),
        (Test::Revision(Compare::Equal, LogIndex(0)), true),
    ] {
        let txn = Txn { when: vec![absent(test.clone())], ..Txn::default() };
        assert_eq!(tree.carry_out(&txn, LogIndex(8)).unwrap().0.unmet.is_none(), holds, "{test:?}");
    }
}

#[test]
fn a_value_keeps_who_made_it_and_who_wrote_it_last() {
    let mut tree = tree(&[("k", "1")]);
    let (outcome, _) = tree.carry_out(&then(vec![put("k", "2")]), LogIndex(9)).unwrap();
    assert_eq!(outcome.changed, [Changed::Put { replaced: Some(LogIndex(1)) }]);
    let item = tree.get(&key("k")).unwrap();
    assert_eq!((item.created, item.revision), (LogIndex(1), LogIndex(9)));
    let gone = Change::DeleteRange { range: Range::All };
    let (outcome, touched) = tree.carry_out(&then(vec![gone, put("k", "3")]), LogIndex(10)).unwrap();
    assert_eq!(outcome.changed, [Changed::Deleted { keys: 1 }, Changed::Put { replaced: None }]);
    assert_eq!(touched, [key("k"), key("k")]);
    assert_eq!(tree.get(&key("k")).unwrap().created, LogIndex(10), "it is another key since");
}

#[test]
fn a_repeated_request_is_answered_as_before_and_not_carried_out_again() {
    let mut tree = Tree::default();
    let txn = Txn { request: Some(RequestId(7)), ..then(vec![put("k", "1")]) };
    let (first, _) = tree.carry_out(&txn, LogIndex(3)).unwrap();
    assert_eq!(tree.repeated(&txn), Ok(Some(&first)));
    let condition = Condition { key: key("k"), test: Test::Exists };
    let guard = Guard { package: crate::package::PackageName::new("p").unwrap(), token: crate::engine::Token(1) };
    for other in [
        then(vec![put("l", "1")]),
        then(vec![put("k", "2")]),
        then(vec![put("k", "1"), put("k", "1")]),
        Txn { otherwise: vec![put("k", "1")], ..Txn::default() },
        Txn { when: vec![condition], ..txn.clone() },
        Txn { guard: Some(guard), ..txn.clone() },
    ] {
        let other = Txn { request: txn.request, ..other };
        assert_eq!(tree.repeated(&other), Err(requests::NameTaken(RequestId(7))), "{other:?}");
    }
    for id in 0..requests::REQUESTS_MAX as u128 {
        let other = Txn { request: Some(RequestId(1000 + id)), ..then(vec![put("k", "2")]) };
        tree.carry_out(&other, LogIndex(4)).unwrap();
    }
    assert_eq!(tree.repeated(&txn), Ok(None), "it is forgotten after {} others", requests::REQUESTS_MAX);
}

#[test]
fn what_is_too_large_is_refused_whole() {
    let mut tree = tree(&[("k", "1")]);
    let before = tree.clone();
    let large = "x".repeat(VALUE_MAX_BYTES + 1);
    let half = "x".repeat(TXN_MAX_BYTES / 2);
    let many = (0..=TXN_STEPS_MAX).map(|at| put(&format!("k{at}"), "")).collect();
    for (changes, why) in [
        (vec![put("k", "2"), put("l", &large)], "the value of 'l' has 131073 bytes"),
        (vec![put("k", &half), put("l", &half)], "at most 196608 are taken at once"),
        (many, "257 conditions and changes"),
    ] {
        let said = tree.carry_out(&then(changes), LogIndex(5)).unwrap_err();
        assert!(said.contains(why), "{said}");
        assert_eq!(tree, before);
    }
}

#[test]
fn a_full_tree_takes_no_more_and_stays_as_it_was_but_can_be_emptied() {
    let mut tree = Tree::default();
    let value = "x".repeat(VALUE_MAX_BYTES);
    let mut index = 0;
    let said = loop {
        index += 1;
        let before = tree.clone();
        // A transaction that gives and takes: whether it fits is seen at its end.
        let changes = vec![put("a/first", ""), put(&format!("k{index:04}"), &value)];
        if let Err(said) = tree.carry_out(&then(changes), LogIndex(index)) {
            assert_eq!(tree, before);
            break said;
        }
    };
    assert!(said.contains("`pkgctl kv unset` makes room") && tree.bytes() <= TREE_MAX_BYTES, "{said}");
    assert!(tree.bytes() + VALUE_MAX_BYTES as u64 + ITEM_COST_BYTES > TREE_MAX_BYTES - 100);
    let gone = Change::Delete { key: key("k0001") };
    tree.carry_out(&then(vec![gone, put("k9999", &value)]), LogIndex(index)).unwrap();
    assert!(tree.get(&key("k9999")).is_some());
}

#[test]
fn signs_and_requests_are_read_and_written_alike() {
    for (sign, compare) in Compare::SIGNS {
        assert_eq!((compare.to_string().as_str(), sign.parse()), (sign, Ok(compare)));
    }
    assert!("==".parse::<Compare>().unwrap_err().contains("use = != < <= > or >="));
    let id: RequestId = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap();
    assert_eq!(id.to_string().parse(), Ok(id));
    assert!("".parse::<RequestId>().is_err() && "x".parse::<RequestId>().is_err());
    assert!("+5".parse::<RequestId>().is_err());
}

fn change() -> impl Strategy<Value = Change> {
    let name = || (0..6u8).prop_map(|at| key(["a", "a/b", "a/c", "b", "b/c/d", "c"][usize::from(at)]));
    prop_oneof![
        4 => (name(), proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(key, bytes)| Change::Put {
            key,
            value: bytes.into()
        }),
        1 => name().prop_map(|key| Change::Delete { key }),
        1 => name().prop_map(|dir| Change::DeleteRange { range: Range::Below(dir) }),
    ]
}

proptest! {
    #[test]
    fn the_bytes_are_counted_and_a_tree_comes_back_from_its_own(
        changes in proptest::collection::vec(change(), 0..40),
    ) {
        let mut tree = Tree::default();
        for (index, change) in (1..).zip(changes) {
            tree.carry_out(&then(vec![change]), LogIndex(index)).unwrap();
        }
        let bytes = |(key, item): (&Key, &Item)| (key.as_str().len() + item.value.bytes().len()) as u64 + ITEM_COST_BYTES;
        prop_assert_eq!(tree.bytes(), tree.range(&Range::All).map(bytes).sum::<u64>());
        prop_assert_eq!(decode::<Tree>(&encode(&tree)).unwrap(), tree);
    }
}
