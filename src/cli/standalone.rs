//! `pkgctl raft force-standalone|whole`, and `fence confirm` in between: an operator's word that a node goes on alone, that
//! nobody else acts for the old cluster, and that this is over.

use std::io::{BufRead, IsTerminal, stdin};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::print::Out;
use super::status::outside;
use crate::api::types::raft::{OtherMember, StandaloneBegun, StandalonePlan, StandaloneRequest};
use crate::api::types::{Changed, ClusterStatus, Status};
use crate::engine::ClusterId;
use crate::engine::fallback::Fallback;
use crate::package::NodeName;

/// How long the agent may take to come up as the new cluster: its keeper ends first.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// How long its next keeper may take to be there.
const KEEPER_WITHIN: Duration = Duration::from_secs(15);
/// An agent's code for finding no leader.
const UNAVAILABLE: &str = "unavailable";
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Shows what is given up, asks for the cluster's name, and waits until the node is a cluster of one.
pub async fn go_alone(client: &Client, out: &Out, verb: &args::ForceStandalone) -> Result<(), Failed> {
    client.on_this_node("raft force-standalone")?;
    let plan: StandalonePlan = client.get("/v1/raft/force-standalone").await?;
    // First: the plan of a node that may not has holes, as where there is nobody else.
    if let Some(why) = &plan.refused {
        return Err(Failed::rejected(why.clone()));
    }
    show(out, &plan);
    if verb.dry_run {
        out.value(&plan);
        return Ok(());
    }
    let ask = "To have this node go on alone, answering for all of the others";
    let cluster = typed(out, &verb.typed, CLUSTER, &plan.cluster, ask)?;
    let request = StandaloneRequest { cluster, fence: verb.fence };
    let begun: StandaloneBegun = client.call("POST", "/v1/raft/force-standalone", &request).await?;
    out.progress(&format!("the new store is ready; the agent begins again as cluster {}", begun.cluster));
    let leads = |cluster: &ClusterStatus| cluster.leader.is_some();
    let up = timeout(UP_WITHIN, comes_up(client, begun.cluster, leads)).await;
    let up = up.map_err(|_| {
        Failed::waiting(format!(
            "this node is not cluster {} after {UP_WITHIN:?}: `pkgctl cluster status` shows which one it is, and the \
             agent's log why. If a leader was there in that moment, nothing was changed",
            begun.cluster
        ))
    })?;
    // Without its keeper it is one all the same; its warnings then say so.
    let has_session = |cluster: &ClusterStatus| cluster.nodes.iter().any(|node| node.session.is_some());
    let up = timeout(KEEPER_WITHIN, comes_up(client, begun.cluster, has_session)).await.unwrap_or(up);
    out.say(&format!("{} is a cluster of one now, {} ({})", plan.node, up.name, up.id));
    out.say(&format!("what it was as a member of cluster {} is kept in {}", begun.from, begun.kept));
    up.warnings.iter().for_each(|text| out.warn(text));
    out.value(
        &serde_json::json!({"cluster": begun.cluster, "from": begun.from, "kept": begun.kept, "fallback": up.fallback}),
    );
    Ok(())
}

/// Waits until the agent answers as that cluster, and it is so far.
async fn comes_up(client: &Client, id: ClusterId, is_up: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
    status_that(client, |status| status.cluster.filter(|cluster| cluster.id == id && is_up(cluster))).await
}

/// Looks at the agent's status until it is what is wanted of it.
pub async fn status_that<T>(client: &Client, wanted: impl Fn(Status) -> Option<T>) -> T {
    loop {
        // Whatever else it says, or that it says nothing, is on the way there.
        if let Ok(Some(status)) = client.get_if_any("/v1/status").await
            && let Some(found) = wanted(status)
        {
            return found;
        }
        sleep(LOOK_EVERY).await;
    }
}

fn show(out: &Out, plan: &StandalonePlan) {
    let upto = plan.last_log.map_or_else(|| "nothing".to_owned(), |last| format!("entry {last}"));
    out.say(&format!(
        "{} is one of {} voters of cluster {} ({}); its log goes to {upto}. Every other node of it:",
        plan.node, plan.voters, plan.cluster, plan.id
    ));
    let row = |other: &OtherMember| {
        let word = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let owned: Vec<&str> = other.owned.iter().map(|package| package.as_str()).collect();
        vec![
            other.name.to_string(),
            other.address.to_string(),
            word(other.voter),
            word(other.answers),
            word(other.fence_device),
            owned.join(" "),
        ]
    };
    let rows: Vec<Vec<String>> = plan.others.iter().map(row).collect();
    out.table(&["NODE", "ADDRESS", "VOTE", "ANSWERS", "FENCE DEVICE", "OWNED"], &rows);
    out.say("\nIf this node goes on alone:");
    plan.gives_up.iter().for_each(|text| out.say(&format!("  - {text}")));
}

/// What [`typed`] asks for the name of.
pub const CLUSTER: &str = "cluster";
const NODE: &str = "node";

/// The name of such a thing as the operator gives it: on the command line, or at the terminal. Another name is refused.
pub fn typed(out: &Out, given: &args::Typed, of: &str, name: &str, ask: &str) -> Result<String, Failed> {
    if let Some(given) = &given.name {
        let wrong = || Failed::rejected(format!("the {of} is called '{name}', not '{given}'; nothing was changed"));
        return if given == name { Ok(given.clone()) } else { Err(wrong()) };
    }
    if out.is_json() || !stdin().is_terminal() {
        return Err(Failed::usage(format!(
            "nothing was changed: nobody is there to type the {of}'s name; add --yes-i-know {name} if you know"
        )));
    }
    out.say(&format!("\n{ask}, type the name of the {of}:"));
    let mut line = String::new();
    stdin().lock().read_line(&mut line).map_err(|e| Failed::usage(format!("nothing was changed: {e}")))?;
    match line.trim() {
        typed if typed == name => Ok(typed.to_owned()),
        other => Err(Failed::usage(format!("nothing was changed: '{other}' is not '{name}'"))),
    }
}

/// Before a word about the old cluster is given that lets packages start here: says what is claimed, and asks for it to be
/// typed. Where nothing of that kind waits, nothing is asked.
pub async fn answer_for(
    client: &Client,
    out: &Out,
    node: Option<&NodeName>,
    given: &args::Typed,
) -> Result<(), Failed> {
    let status: Status = client.get("/v1/status").await?;
    let Some(cluster) = &status.cluster else { return Ok(()) };
    let Some(claims) = cluster.fallback.as_ref().and_then(|fallback| claims(fallback, node)) else { return Ok(()) };
    claims.iter().for_each(|text| out.say(text));
    let (of, name) = node.map_or((CLUSTER, cluster.name.as_str()), |node| (NODE, node.as_str()));
    typed(out, given, of, name, "To say that this is so, and answer for it").map(drop)
}

/// What an operator claims of a former member, or of whoever is not known here, and what follows if it is false; none when
/// no word of that kind is missing.
fn claims(fallback: &Fallback, node: Option<&NodeName>) -> Option<[String; 2]> {
    let from = fallback.from;
    let (claim, who) = match node {
        Some(node) => {
            let (_, former) = fallback.unconfirmed().find(|(_, former)| former.name == *node)?;
            let claim = format!(
                "You say that {node} ({}), a node of cluster {from}, is off and will stay off, or has left that cluster.",
                former.address
            );
            (claim, node.as_str())
        }
        None if fallback.unlisted.is_some() => return None,
        None => {
            let formers: Vec<&str> = fallback.formers.values().map(|former| former.name.as_str()).collect();
            let claim = format!(
                "You say that beside {} no machine acts for cluster {from}: that it has taken none in since this node last \
                 heard of it, or that those are off.",
                formers.join(", ")
            );
            (claim, "such a machine")
        }
    };
    let false_then = format!(
        "If that is false, {who} may act for packages that are started here: two nodes then write to the same data, and \
         nothing of pkgctl prevents it."
    );
    Some([claim, false_then])
}

/// What comes first where a word about the old cluster meets no majority.
const ALONE_FIRST: &str = "where the majority is lost for good, or for too long, `pkgctl raft force-standalone` on a node that is \
                           left comes first: it makes the cluster that takes this word (docs/fallback.md)";

/// That nobody took a word about the old cluster; with what comes first, where no leader is why.
pub fn not_taken(failed: Failed) -> Failed {
    if failed.is_any_of(&[UNAVAILABLE]) { failed.and(ALONE_FIRST) } else { failed }
}

/// What `raft whole` says in a cluster that did not go on from another one.
fn nothing_to_declare(has_leader: bool) -> String {
    let nothing = "this cluster did not go on alone from another one, or is whole again: there is nothing to declare, and \
                   nothing was changed";
    if has_leader { nothing.to_owned() } else { format!("{nothing}. It has no leader now: {ALONE_FIRST}") }
}

/// `pkgctl raft whole`.
pub async fn whole(client: &Client, out: &Out, given: &args::Typed) -> Result<(), Failed> {
    client.on_this_node("raft whole")?;
    let status: Status = client.get("/v1/status").await?;
    let Some(cluster) = &status.cluster else { return Err(Failed::rejected(outside(&status))) };
    let has_leader = cluster.leader.is_some() && !status.stale;
    let Some(fallback) = &cluster.fallback else { return Err(Failed::rejected(nothing_to_declare(has_leader))) };
    let formers: Vec<&str> = fallback.formers.values().map(|former| former.name.as_str()).collect();
    out.say(&format!(
        "this cluster went on from cluster {}. None of these may ever start again with its store of that: {}",
        fallback.from,
        formers.join(", ")
    ));
    typed(out, given, CLUSTER, &cluster.name, "To say that this is so")?;
    let changed: Changed = client.call("POST", "/v1/raft/whole", &serde_json::json!({})).await?;
    out.say("the cluster is whole: nothing is left to be said about the old one");
    out.value(&changed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::fallback::{Former, Word};
    use crate::engine::{LogIndex, NodeId, WallMillis};

    fn name(of: &str) -> NodeName {
        NodeName::new(of).unwrap()
    }

    fn fallback() -> Fallback {
        let former = |of: &str, off| Former { name: name(of), address: "10.0.0.9:7420".parse().unwrap(), off };
        let word = Word { at: WallMillis(5), how: "root".to_owned() };
        Fallback {
            from: ClusterId(7),
            begun: LogIndex(9),
            since: WallMillis(5),
            by: "root".to_owned(),
            formers: BTreeMap::from([(NodeId(2), former("n2", None)), (NodeId(3), former("n3", Some(word)))]),
            unlisted: None,
        }
    }

    #[test]
    fn a_word_that_lets_packages_start_is_claimed_in_full_and_one_that_was_given_asks_for_nothing() {
        let mut fallback = fallback();
        let [claim, false_then] = claims(&fallback, Some(&name("n2"))).unwrap();
        assert!(claim.contains("n2 (10.0.0.9:7420)") && claim.contains("will stay off"), "{claim}");
        assert!(false_then.contains("n2 may act") && false_then.contains("two nodes"), "{false_then}");
        let [claim, _] = claims(&fallback, None).unwrap();
        assert!(claim.contains("beside n2, n3"), "{claim}");
        assert_eq!(claims(&fallback, Some(&name("n3"))), None, "it was said before");
        assert_eq!(claims(&fallback, Some(&name("n4"))), None, "it is nobody of the old cluster");
        fallback.unlisted = Some(Word { at: WallMillis(6), how: "root".to_owned() });
        assert_eq!(claims(&fallback, None), None);
    }

    #[test]
    fn a_word_that_meets_no_majority_is_told_what_comes_first() {
        let lost = not_taken(Failed::unreachable("no leader".to_owned()).with_code(Some(UNAVAILABLE.to_owned())));
        assert!(lost.message.starts_with("no leader; ") && lost.message.contains("force-standalone"), "{lost:?}");
        assert_eq!(lost.number(), 3);
        let refused = not_taken(Failed::rejected("no such node".to_owned()).with_code(Some("no_such_node".to_owned())));
        assert_eq!(refused.message, "no such node");
        assert!(nothing_to_declare(true).contains("nothing to declare"));
        assert!(!nothing_to_declare(true).contains("force-standalone"));
        assert!(nothing_to_declare(false).contains("force-standalone"));
    }

    #[test]
    fn only_the_very_name_is_taken_for_a_word() {
        let out = Out::new(true);
        let given = |given: Option<&str>| args::Typed { name: given.map(str::to_owned) };
        let ask = |words: &args::Typed| typed(&out, words, NODE, "n2", "To say so");
        assert_eq!(ask(&given(Some("n2"))).ok().as_deref(), Some("n2"));
        let refused = |words| ask(&given(words)).unwrap_err().message;
        assert!(refused(Some("n3")).contains("the node is called 'n2', not 'n3'; nothing was changed"));
        assert!(refused(None).contains("--yes-i-know n2"));
    }
}
