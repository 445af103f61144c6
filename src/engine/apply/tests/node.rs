//! What nodes say of their machines.

use super::*;
use crate::engine::event::TEXT_MAX_BYTES;
use crate::engine::state::Watchdog;

fn say(log: &mut Log, watchdog: Option<Watchdog>) -> Reply {
    let node = log.nodes[1];
    log.say(Command::SayWatchdog { node, watchdog })
}

#[test]
fn a_watchdog_is_kept_as_its_keeper_says_and_only_news_is_in_the_ledger() {
    let mut log = Log::three();
    let before = log.next();
    assert_eq!(say(&mut log, None), Reply::Already);
    let armed = Watchdog::Armed { timeout: Millis(10_000) };
    assert_eq!(say(&mut log, Some(armed.clone())), Reply::Done);
    assert_eq!(say(&mut log, Some(armed.clone())), Reply::Already);
    assert_eq!(log.state.watchdogs.get(&log.nodes[1]), Some(&armed));
    let starved = Watchdog::Starved { why: "x".repeat(2 * TEXT_MAX_BYTES) };
    assert_eq!(say(&mut log, Some(starved)), Reply::Done);
    let Some(Watchdog::Starved { why }) = log.state.watchdogs.get(&log.nodes[1]) else { panic!("not kept") };
    assert_eq!(why.len(), TEXT_MAX_BYTES);
    assert_eq!(say(&mut log, None), Reply::Done);
    assert!(log.state.watchdogs.is_empty());
    assert_eq!(log.whats(before), ["watchdog", "watchdog", "watchdog"]);
    let stranger = Command::SayWatchdog { node: NodeId(999), watchdog: None };
    assert!(matches!(log.refused(stranger), Rejected::NoSuchNode { .. }));
}

#[test]
fn a_node_says_where_it_answers_plain_http_and_takes_it_back() {
    let mut log = Log::three();
    let (node, before) = (log.nodes[1], log.next());
    let address = Some("10.0.0.2:8091".parse().unwrap());
    assert_eq!(log.say(Command::SayHttp { node, address }), Reply::Done);
    assert_eq!(log.say(Command::SayHttp { node, address }), Reply::Already);
    assert_eq!(log.state.http.get(&node).copied(), address);
    assert_eq!(log.say(Command::SayHttp { node, address: None }), Reply::Done);
    assert!(log.state.http.is_empty());
    assert_eq!(log.whats(before), [""; 0]);
    let stranger = Command::SayHttp { node: NodeId(999), address };
    assert!(matches!(log.refused(stranger), Rejected::NoSuchNode { .. }));
}
