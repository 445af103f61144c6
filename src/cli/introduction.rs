//! The shared secret on the command line: made by `cluster secret`, and used to come by a join token where only a member's
//! address is known.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::args;
use super::exit::Failed;
use super::print::Out;
use super::reach::endpoint;
use crate::api::types::Status;
use crate::config::Places;
use crate::net::http::{Call, Endpoint, Method};
use crate::net::introduction::{IN_NO_CLUSTER, IntroductionError, Knock, SharedSecret, ask_for_token};
use crate::net::token::JoinToken;

/// How long a name may take to be resolved.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// How long plain HTTP may take to say where the members are.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// `pkgctl cluster secret`: makes it, or shows which one there is.
pub fn secret(places: &Places, out: &Out, verb: &args::ClusterSecret) -> Result<(), Failed> {
    let path = places.secret_file();
    let shown = path.display();
    let there = if verb.renew { None } else { read(places)? };
    let made = there.is_none();
    let secret = match there {
        Some(secret) => secret,
        None => SharedSecret::make(&path).map_err(|e| Failed::usage(e.to_string()))?,
    };
    let mark = secret.mark();
    let word = if made { "made" } else { "there already, and unchanged" };
    out.say(&format!("secret {mark} in {shown}: {word}"));
    out.progress(
        "copy it to every node of the cluster, over a channel you trust, with mode 0600; whoever has it can become a member\n\
         (`scp -p`). Then, on a member: pkgctl raft add NAME ADDRESS; or on the new node: pkgctl cluster join ADDRESS",
    );
    out.value(&serde_json::json!({"file": path, "mark": mark, "made": made}));
    Ok(())
}

/// The secret of this machine; none where there is none.
pub fn read(places: &Places) -> Result<Option<SharedSecret>, Failed> {
    SharedSecret::read(&places.secret_file()).map_err(|e| Failed::usage(e.to_string()))
}

/// A host name or an address, with a port or the default one, as addresses to try in turn.
pub async fn resolve(given: &str) -> Result<Vec<SocketAddr>, Failed> {
    let at = endpoint(given).map_err(Failed::usage)?;
    let bad = |why: String| Failed::usage(format!("cannot find the address of '{given}': {why}; nothing was changed"));
    let found = timeout(RESOLVE_WITHIN, tokio::net::lookup_host(&at)).await;
    let found = found.map_err(|_| bad(format!("no answer within {RESOLVE_WITHIN:?}")))?;
    let mut all: Vec<SocketAddr> = found.map_err(|e| bad(e.to_string()))?.collect();
    // A name that is in both families is listened on in the older one more often.
    all.sort_by_key(SocketAddr::is_ipv6);
    all.dedup();
    if all.is_empty() { Err(bad("it has none".to_owned())) } else { Ok(all) }
}

/// A join token from the member at that address: its cluster port, or where it serves plain HTTP, which says where the
/// members' cluster ports are. Whoever answers must prove the secret.
pub async fn token_from(places: &Places, given: &str) -> Result<JoinToken, Failed> {
    let secret = read(places)?.ok_or_else(|| no_secret(places))?;
    let mut missed = Vec::new();
    for address in resolve(given).await? {
        match ask(address, &secret).await {
            Ok(token) => return Ok(token),
            Err(IntroductionError::NotOurs { .. }) => match members_behind(address).await {
                Ok(members) => match first(&members, &secret).await {
                    Ok(token) => return Ok(token),
                    Err(failed) => missed.push(failed),
                },
                Err(why) => missed.push(Failed::unreachable(why)),
            },
            Err(error) => missed.push(explained(&error)),
        }
    }
    Err(missed.into_iter().next().unwrap_or_else(|| Failed::unreachable(format!("{given} has no address"))))
}

async fn ask(to: SocketAddr, secret: &SharedSecret) -> Result<JoinToken, IntroductionError> {
    ask_for_token(Knock { to, from: None }, secret).await
}

async fn first(members: &[SocketAddr], secret: &SharedSecret) -> Result<JoinToken, Failed> {
    let mut missed = None;
    for member in members {
        match ask(*member, secret).await {
            Ok(token) => return Ok(token),
            Err(error) => missed = missed.or(Some(explained(&error))),
        }
    }
    Err(missed.unwrap_or_else(|| Failed::unreachable("no member is known there".to_owned())))
}

/// What an introduction that failed makes of a verb.
pub fn explained(error: &IntroductionError) -> Failed {
    let text = format!("{error}; nothing was changed");
    match error {
        IntroductionError::Unreachable { .. } | IntroductionError::NotOurs { .. } => Failed::unreachable(text),
        IntroductionError::Refused { why, .. } if why == IN_NO_CLUSTER => Failed::unreachable(text),
        IntroductionError::Unproved { .. } | IntroductionError::Refused { .. } | IntroductionError::Token { .. } => {
            Failed::rejected(text)
        }
        IntroductionError::BrokeOff { .. } => Failed::unknown(error.to_string()),
    }
}

fn no_secret(places: &Places) -> Failed {
    Failed::by_hand(format!(
        "there is no secret in {}, by which a member would let this node in: copy it from a member, where `pkgctl cluster \
         secret` makes it. Or, without a secret:\n  on a member:  pkgctl cluster token\n  here:         pkgctl cluster join TOKEN",
        places.secret_file().display()
    ))
}

/// The cluster ports of the members, the leader's first, by the word of a plain HTTP port: only where to ask.
async fn members_behind(http: SocketAddr) -> Result<Vec<SocketAddr>, String> {
    let call = Call { within: ASK_WITHIN, ..Call::new(Method::GET, "/v1/status") };
    let answer = Endpoint::Plain(http).call(&call).await.map_err(|e| e.to_string())?;
    let status = serde_json::from_slice::<Status>(&answer.body).ok().filter(|_| answer.status == 200);
    let cluster =
        status.ok_or_else(|| format!("what answers at {http} is neither a cluster port nor plain HTTP of pkgctl"))?;
    let cluster = cluster.cluster.ok_or_else(|| format!("the node at {http} is in no cluster itself"))?;
    let mut nodes: Vec<_> = cluster.nodes.iter().filter(|node| node.voter && !node.leaving).collect();
    nodes.sort_by_key(|node| (Some(&node.name) != cluster.leader.as_ref(), node.address.ip() != http.ip()));
    Ok(nodes.into_iter().map(|node| node.address).collect())
}
