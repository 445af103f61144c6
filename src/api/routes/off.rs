//! A word that a machine is off is not taken while that machine answers: whoever takes a connection is not off.

use std::net::SocketAddr;

use axum::http::StatusCode;
use futures::future::join_all;

use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::engine::fallback::Former;
use crate::engine::{NodeId, State};
use crate::package::NodeName;

/// Refuses the word that this node is off while it answers.
pub(super) async fn check<D: Door>(door: &D, node: NodeId) -> Result<(), Refusal> {
    let found: Vec<_> = door.read(|state| place(state, node)).into_iter().collect();
    refuse(door, &found, "`pkgctl fence confirm` it then").await
}

/// Refuses the word that no former member will come back while one answers.
pub(super) async fn check_formers<D: Door>(door: &D) -> Result<(), Refusal> {
    refuse(door, &door.read(formers), "say it then").await
}

/// Where a former member, or else a member, has its cluster port; none where a member of this cluster has the former's.
fn place(state: &State, node: NodeId) -> Option<(NodeName, SocketAddr)> {
    match state.fallback.iter().find_map(|fallback| fallback.formers.get(&node)) {
        Some(former) => at(state, former),
        None => state.nodes.get(&node).map(|node| (node.name.clone(), node.address)),
    }
}

/// All former members but those at whose address a member of this cluster is now.
fn formers(state: &State) -> Vec<(NodeName, SocketAddr)> {
    let all = state.fallback.iter().flat_map(|fallback| fallback.formers.values());
    all.filter_map(|former| at(state, former)).collect()
}

fn at(state: &State, former: &Former) -> Option<(NodeName, SocketAddr)> {
    let is_ours = state.nodes.values().any(|node| node.address == former.address);
    (!is_ours).then(|| (former.name.clone(), former.address))
}

async fn refuse<D: Door>(door: &D, all: &[(NodeName, SocketAddr)], then: &str) -> Result<(), Refusal> {
    let answers = join_all(all.iter().map(|(_, address)| door.answers(*address))).await;
    judge(all, &answers, then)
}

fn judge(all: &[(NodeName, SocketAddr)], answers: &[bool], then: &str) -> Result<(), Refusal> {
    let there = all.iter().zip(answers).filter(|(_, answers)| **answers);
    let there: Vec<String> = there.map(|((name, address), _)| format!("{name} answers at {address}")).collect();
    if there.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{}: a machine that answers is not off. Nothing was changed; switch it off first, or `pkgctl cluster leave` there, \
         and {then}",
        there.join(", ")
    );
    Err(Refusal::new(StatusCode::CONFLICT, "rejected", text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::fallback::Fallback;
    use crate::engine::state::Node;
    use crate::engine::{ClusterId, LogIndex, Nonce, WallMillis};

    fn name(of: &str) -> NodeName {
        NodeName::new(of).unwrap()
    }

    fn state(address: SocketAddr) -> State {
        let former = Former { name: name("n2"), address, off: None };
        let fallback = Fallback {
            from: ClusterId(7),
            begun: LogIndex(9),
            since: WallMillis(5),
            by: "root".to_owned(),
            formers: BTreeMap::from([(NodeId(2), former)]),
            unlisted: None,
        };
        State { fallback: Some(fallback), ..State::default() }
    }

    #[test]
    fn a_former_member_is_not_off_while_it_answers_and_may_be_once_it_does_not() {
        let address: SocketAddr = "127.0.0.1:7420".parse().unwrap();
        let state = state(address);
        let one: Vec<_> = place(&state, NodeId(2)).into_iter().collect();
        assert_eq!(one, formers(&state));
        assert_eq!(one, [(name("n2"), address)]);
        assert_eq!(place(&state, NodeId(3)), None);
        let refused = judge(&one, &[true], "say it then").unwrap_err();
        let said = refused.message();
        assert!(
            said.starts_with(&format!("n2 answers at {address}: ")) && said.contains("Nothing was changed"),
            "{said}"
        );
        assert!(said.contains("switch it off first, or `pkgctl cluster leave` there"), "{said}");
        assert!(judge(&one, &[false], "say it then").is_ok());
    }

    #[test]
    fn a_former_member_that_is_one_of_this_cluster_now_may_answer() {
        let address: SocketAddr = "127.0.0.1:7420".parse().unwrap();
        let mut state = state(address);
        let node = Node { name: name("n2"), address, links: Vec::new(), request: Nonce(1) };
        state.nodes.insert(NodeId(4), node);
        assert_eq!(formers(&state), []);
    }
}
