//! `apply` is total and deterministic (I6) under arbitrary commands, garbage ids included.

use proptest::prelude::*;

use super::fallback::gone_alone;
use super::*;
use crate::engine::fence::{FenceAction, FenceDevice, FenceOutcome};
use crate::engine::kv::{self, Change, Compare, Condition, Guard, Key, RequestId, Test, Txn};
use crate::engine::operator::ClientName;
use crate::engine::state::{ResourceReport, ResourceState, Watchdog};
use crate::engine::{check, codec};

/// Small numbers hit what exists; the largest ones look for overflows.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..30u64, 1 => Just(u64::MAX), 1 => any::<u64>()]
}

fn package_name() -> impl Strategy<Value = PackageName> {
    (0..4u8).prop_map(|n| PackageName::new(format!("p{n}")).unwrap())
}

fn a_node() -> impl Strategy<Value = NodeName> {
    (0..5usize).prop_map(node_name)
}

fn a_package() -> impl Strategy<Value = Package> {
    (0..4u8, 90..110u8, prop::collection::vec(0..5usize, 0..4))
        .prop_map(|(n, host, nodes)| package(&format!("p{n}"), &format!("10.0.0.{host}"), &nodes))
}

fn takeover() -> impl Strategy<Value = Takeover> {
    (package_name(), number(), number()).prop_map(|(package, token, to)| Takeover {
        package,
        token: Token(token),
        to: SessionId(to),
        why: "why".into(),
    })
}

fn fencing() -> impl Strategy<Value = Command> {
    let action = || prop_oneof![Just(FenceAction::Off), Just(FenceAction::Reboot)];
    prop_oneof![
        (a_node(), any::<bool>(), action(), number()).prop_map(|(node, good, action, ms)| Command::SetFence {
            node,
            device: FenceDevice {
                agent: if good { "/usr/sbin/fence_x".into() } else { "x".into() },
                options: BTreeMap::new(),
                action,
                timeout: Millis(ms),
                delay: Millis(0),
            },
        }),
        a_node().prop_map(|node| Command::DeleteFence { node }),
        (a_node(), action(), any::<bool>()).prop_map(|(node, action, force)| Command::OrderFence {
            node,
            action,
            force
        }),
        (number(), number()).prop_map(|(node, after)| Command::BeginFence {
            node: NodeId(node),
            after: LogIndex(after),
            why: "why".into(),
        }),
        (number(), number(), any::<bool>(), action()).prop_map(|(node, begun, well, action)| Command::EndFence {
            node: NodeId(node),
            begun: LogIndex(begun),
            outcome: if well {
                FenceOutcome::Fenced { action, by: NodeId(node) }
            } else {
                FenceOutcome::Failed { why: "why".into() }
            },
        }),
        a_node().prop_map(|node| Command::ConfirmFence { node }),
        prop_oneof![Just(Command::ConfirmUnlisted), Just(Command::SayWhole)],
    ]
}

fn key() -> impl Strategy<Value = Key> {
    (0..4u8).prop_map(|at| Key::new(["a", "a/b", "a/b/c", "b"][usize::from(at)]).unwrap())
}

fn kv() -> impl Strategy<Value = Command> {
    let change = || {
        prop_oneof![
            (key(), number()).prop_map(|(key, n)| Change::Put { key, value: n.to_string().into() }),
            key().prop_map(|key| Change::Delete { key }),
            (key(), key()).prop_map(|(from, to)| {
                let (from, to) = (Some(from), Some(to));
                Change::DeleteRange { range: kv::Range::Between { from, to } }
            }),
        ]
    };
    let test = prop_oneof![
        Just(Test::Exists),
        Just(Test::Absent),
        number().prop_map(|n| Test::Value(Compare::Less, n.to_string().into())),
        number().prop_map(|n| Test::Revision(Compare::AtMost, LogIndex(n))),
    ];
    let guard = (package_name(), number()).prop_map(|(package, n)| Guard { package, token: Token(n) });
    let when = prop::collection::vec((key(), test).prop_map(|(key, test)| Condition { key, test }), 0..2);
    let changes = || prop::collection::vec(change(), 0..3);
    (when, changes(), changes(), prop::option::of(guard), prop::option::of(0..3u8)).prop_map(
        |(when, then, otherwise, guard, request)| {
            Command::Kv(Txn { when, then, otherwise, guard, request: request.map(|n| RequestId(n.into())) })
        },
    )
}

fn nodes_and_leases() -> impl Strategy<Value = Command> {
    let agreed = prop::collection::vec((number(), number()), 0..4);
    prop_oneof![
        (0..5usize).prop_map(|at| Command::CreateCluster { cluster: cluster(), node: new_node(at) }),
        (any::<u8>(), number())
            .prop_map(|(of, at)| Command::IssueToken { digest: digest(of % 4), expires: WallMillis(at) }),
        (0..5usize, any::<u8>(), number()).prop_map(|(at, of, n)| Command::AddNode {
            node: new_node(at),
            token: digest(of % 4),
            request: Nonce(n)
        }),
        (0..5usize).prop_map(|at| Command::RemoveNode { node: node_name(at) }),
        (0..5usize).prop_map(|at| Command::KeepNode { node: node_name(at) }),
        (number(), prop::option::of(number())).prop_map(|(node, ms)| Command::SayWatchdog {
            node: NodeId(node),
            watchdog: ms.map(|ms| Watchdog::Armed { timeout: Millis(ms) }),
        }),
        (number(), any::<bool>()).prop_map(|(node, there)| Command::SayHttp {
            node: NodeId(node),
            address: there.then(|| ([10, 0, 0, 1], 8091).into()),
        }),
        number().prop_map(|node| Command::ForgetNode { node: NodeId(node) }),
        (number(), number()).prop_map(|(v, n)| Command::VoterUp { voter: NodeId(v), nonce: Nonce(n) }),
        (number(), number(), number(), prop::option::of(number())).prop_map(|(node, nonce, ttl, old)| {
            let supersedes = old.map(SessionId);
            Command::Register {
                node: NodeId(node),
                nonce: Nonce(nonce),
                ttl: Millis(ttl.saturating_mul(40)),
                supersedes,
            }
        }),
        (number(), agreed, prop::collection::vec(takeover(), 0..3)).prop_map(|(session, agreed, moves)| {
            let agreed = agreed.into_iter().map(|(v, i)| (NodeId(v), Incarnation(i))).collect();
            let timeline = Timeline { noticed: Millis(u64::MAX), agreed: Millis(1) };
            Command::ExpireSession { session: SessionId(session), agreed, moves, timeline }
        }),
        (prop::collection::btree_set(number().prop_map(NodeId), 0..4), prop::option::of(number()))
            .prop_map(|(members, after)| Command::AddLeaseSet { members, after: after.map(SetId) }),
        number().prop_map(|set| Command::RetireLeaseSet { set: SetId(set) }),
        ("[ab]", any::<bool>()).prop_map(|(name, admit)| {
            let name = ClientName::new(name).unwrap();
            if admit { Command::AdmitOperator { name } } else { Command::RevokeOperator { name } }
        }),
    ]
}

fn keys() -> impl Strategy<Value = Command> {
    let id = || prop_oneof![8 => 1..4u32, 1 => any::<u32>()];
    prop_oneof![
        Just(Command::RotateKey),
        id().prop_map(|id| Command::AddKey { id, key: DatagramKey([2; 32]) }),
        (number(), number(), number()).prop_map(|(node, nonce, at)| {
            Command::HaveKeys { node: NodeId(node), nonce: Nonce(nonce), at: LogIndex(at) }
        }),
        id().prop_map(|id| Command::UseKey { id }),
        id().prop_map(|keep| Command::DropKeys { keep }),
    ]
}

fn packages() -> impl Strategy<Value = Command> {
    let scope = prop_oneof![Just(StopScope::Owner), Just(StopScope::Everywhere), a_node().prop_map(StopScope::Node)];
    prop_oneof![
        (a_package(), prop::option::of(number())).prop_map(|(definition, replaces)| {
            Command::DefinePackage { definition, replaces: replaces.map(LogIndex) }
        }),
        (package_name(), number()).prop_map(|(package, at)| Command::DeletePackage { package, revision: LogIndex(at) }),
        (package_name(), prop::option::of(a_node())).prop_map(|(package, node)| Command::RunPackage { package, node }),
        (package_name(), scope).prop_map(|(package, scope)| Command::StopPackage { package, scope }),
        (package_name(), a_node()).prop_map(|(package, node)| Command::ClearFailure { package, node }),
    ]
}

fn owners() -> impl Strategy<Value = Command> {
    let outcome = prop_oneof![Just(ReleaseOutcome::Stopped), Just(ReleaseOutcome::Failed { reason: "broken".into() })];
    prop_oneof![
        (package_name(), number(), number()).prop_map(|(package, token, to)| {
            Command::MovePackage { package, token: Token(token), to: NodeId(to), why: "moved".into() }
        }),
        (package_name(), number(), number()).prop_map(|(package, last, session)| {
            Command::Assign { package, last: Token(last), session: SessionId(session), why: "given".into() }
        }),
        (package_name(), number(), number(), outcome).prop_map(|(package, token, session, outcome)| {
            Command::Release { package, token: Token(token), session: SessionId(session), outcome }
        }),
        (package_name(), number(), ".{0,600}").prop_map(|(package, token, note)| {
            let name = ResourceName::new("ip").unwrap();
            let resources = vec![ResourceReport { name, state: ResourceState::Up, detail: note.clone() }; 3];
            let (phase, after) = (Phase::Running, Millis(1));
            Command::Report { package, token: Token(token), phase, resources, after, note }
        }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![nodes_and_leases(), packages(), owners(), fencing(), kv(), keys()]
}

/// Starts from a cluster that works, so that arbitrary commands find something to change.
fn busy() -> Log {
    let mut log = Log::three();
    log.run();
    log.assign(0);
    log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_commands_never_panic_and_equal_logs_give_equal_states(
        commands in prop::collection::vec(command(), 1..60), alone in any::<bool>()
    ) {
        let start = || if alone { gone_alone(&busy()) } else { busy() };
        let (mut one, mut two) = (start(), start());
        for command in commands {
            // `Log::apply` checks that a refusal changes nothing.
            let before = one.state.clone();
            let first = one.apply(command.clone());
            prop_assert_eq!(check::consistent(&one.state), Ok(()));
            prop_assert_eq!(check::tokens_rise(&before, &one.state), Ok(()));
            let second = two.apply(codec::decode(&codec::encode(&command)).unwrap());
            prop_assert_eq!(first, second);
        }
        prop_assert_eq!(check::equal_states(&one.state, &two.state), Ok(()));
        let back: State = codec::decode(&codec::encode(&one.state)).unwrap();
        prop_assert_eq!(back, one.state);
    }
}
