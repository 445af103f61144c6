//! A cluster's state for inputs that act on one: two nodes, a session, a package.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use pkgctl::engine::command::{Entry, NewNode, StopScope};
use pkgctl::engine::state::{Cluster, DatagramKey};
use pkgctl::engine::{
    ClusterId, Command, FOUNDER, LogIndex, NodeId, Nonce, Profile, State, WallMillis, apply, apply_membership,
};
use pkgctl::package::{Millis, NodeName, Package, PackageName, parse};

pub const CLUSTER: ClusterId = ClusterId(7);

pub fn package() -> Package {
    let text = "name = \"p1\"\nnodes = [\"n1\", \"n2\"]\n[[resource]]\nkind = \"ip\"\naddress = \"10.0.0.100/24\"\n\
                device = \"eth0\"\n[[resource]]\nkind = \"program\"\ncommand = [\"/bin/x\"]\n";
    parse("p1", text).expect("it is a package")
}

fn node(name: &str, host: u8) -> NewNode {
    let name = NodeName::new(name).expect("it is a name");
    NewNode { name, address: ([10, 0, 0, host], 7420).into(), links: Vec::new() }
}

/// Commands of every group, the first ones in an order in which they are taken.
pub fn commands() -> Vec<Command> {
    let cluster = Cluster {
        id: CLUSTER,
        name: "test".to_owned(),
        profile: Profile::Default,
        ca_certificate: String::new(),
        ca_key: String::new(),
        datagram_keys: BTreeMap::from([(1, DatagramKey([1; 32]))]),
    };
    let (digest, p1) = ("0".repeat(64), package().name);
    vec![
        Command::CreateCluster { cluster, node: node("n1", 1) },
        Command::IssueToken { digest: digest.clone(), expires: WallMillis(3_600_000) },
        Command::AddNode { node: node("n2", 2), token: digest, request: Nonce(1) },
        Command::VoterUp { voter: FOUNDER, nonce: Nonce(3) },
        Command::Register { node: FOUNDER, nonce: Nonce(3), ttl: Millis(1500), supersedes: None },
        Command::DefinePackage { definition: package(), replaces: None },
        Command::RunPackage { package: p1.clone(), node: None },
        Command::StopPackage { package: p1.clone(), scope: StopScope::Everywhere },
        Command::DeletePackage { package: p1, revision: LogIndex(7) },
        Command::ForgetNode { node: NodeId(3) },
        Command::AddKey { id: 2, key: DatagramKey([2; 32]) },
    ]
}

pub fn entry(command: Command) -> Entry {
    Entry { wall: WallMillis(1000), by: "root@n1".to_owned(), command }
}

/// The state after the first seven of [`commands`].
pub fn state() -> Arc<State> {
    static STATE: LazyLock<Arc<State>> = LazyLock::new(|| {
        let mut state = State::default();
        apply_membership(&mut state, LogIndex(1), BTreeSet::from([FOUNDER]));
        for (index, command) in (2..).zip(commands().into_iter().take(7)) {
            apply(&mut state, LogIndex(index), &entry(command));
        }
        assert!(state.packages.contains_key(&PackageName::new("p1").expect("it is a name")), "the scene is set");
        Arc::new(state)
    });
    STATE.clone()
}
