//! What the key/value tree counts is what it takes: measured at glibc's allocator, for the sizes and orders of keys that are
//! worst. `cargo test --test kv_memory -- --nocapture` prints the table.

use pkgctl::engine::LogIndex;
use pkgctl::engine::kv::{Change, ITEM_COST_BYTES, Key, REQUESTS_MAX_BYTES, RequestId, Tree, Txn};

const ITEMS: u64 = 100_000;

/// Bytes that the allocator has given out, its own part of each included.
fn in_use() -> u64 {
    // SAFETY: it takes nothing, and fills a structure of numbers.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

/// Spreads numbers over all of their range, each to another place.
fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn put(tree: &mut Tree, key: &str, value: &[u8], index: u64, request: Option<RequestId>) {
    let then = vec![Change::Put { key: Key::new(key).unwrap(), value: value.into() }];
    tree.carry_out(&Txn { then, request, ..Txn::default() }, LogIndex(index)).unwrap();
}

/// A tree of such keys and values, of which only every so many are left; bytes per item that it counts, and that it takes.
fn filled(name: fn(u64) -> String, value_bytes: usize, left: u64) -> (u64, u64) {
    let before = in_use();
    let (mut tree, value) = (Tree::default(), vec![b'x'; value_bytes]);
    (1..=ITEMS).for_each(|n| put(&mut tree, &name(n), &value, n, None));
    for n in (1..=ITEMS).filter(|n| n % left != 0) {
        let then = vec![Change::Delete { key: Key::new(&name(n)).unwrap() }];
        tree.carry_out(&Txn { then, ..Txn::default() }, LogIndex(n)).unwrap();
    }
    let items = tree.len() as u64;
    (tree.bytes() / items, (in_use() - before) / items)
}

/// One test, because what others allocate meanwhile would be counted.
#[test]
fn what_is_counted_of_a_tree_and_its_requests_is_at_least_what_they_take() {
    println!("keys       left  value  counted/item  taken/item");
    let risen: fn(u64) -> String = |n| format!("{n:07}");
    let fallen: fn(u64) -> String = |n| format!("{:07}", ITEMS - n);
    let anywhere: fn(u64) -> String = |n| format!("{:016x}", scattered(n));
    for (order, name, left) in [
        ("rising", risen, 1),
        ("falling", fallen, 1),
        ("scattered", anywhere, 1),
        ("rising", risen, 3),
        ("falling", fallen, 2),
    ] {
        for value_bytes in [0, 1, 9, 64, 256] {
            let (counted, taken) = filled(name, value_bytes, left);
            println!("{order:<10}  1/{left} {value_bytes:>6}  {counted:>12}  {taken:>10}");
            assert!(taken <= counted, "{order}, {value_bytes}: {taken} bytes are taken, {counted} counted");
            assert!(counted - taken < ITEM_COST_BYTES, "{order}, {value_bytes}: the cost is far too high");
        }
    }

    let before = in_use();
    let mut tree = Tree::default();
    for n in 1..=ITEMS {
        put(&mut tree, "k", b"v", n, Some(RequestId(u128::from(scattered(n)))));
    }
    let taken = in_use() - before;
    println!("named requests: {} remembered, {taken} bytes", tree.requests_remembered());
    assert!(taken <= REQUESTS_MAX_BYTES, "{taken}");
}
