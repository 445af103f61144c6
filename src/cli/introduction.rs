//! The shared secret on the command line: made by `cluster secret`, and used to come by a join token where only a member's
//! address is known.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::print::Out;
use super::reach::endpoint;
use crate::api::types::Status;
use crate::config::{Places, REMOVAL_FILE};
use crate::engine::{ClusterId, NodeId};
use crate::net::http::{Call, Endpoint, Method};
use crate::net::introduction::{IntroductionError, Knock, SharedSecret, ask_for_token};
use crate::net::token::JoinToken;

/// How long a name may take to be resolved.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// How long plain HTTP may take to say where the members are.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// `pkgctl cluster secret`: makes it, or shows which one there is.
pub fn secret(client: &Client, out: &Out, verb: &args::ClusterSecret) -> Result<(), Failed> {
    client.on_this_node("cluster secret")?;
    let places = &client.places;
    let path = places.secret_file();
    let shown = path.display();
    let there = if verb.renew { None } else { read(places)? };
    let made = there.is_none();
    if made {
        may_make_one(places)?;
    }
    let secret = match there {
        Some(secret) => secret,
        None => SharedSecret::make(&path)?,
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

/// What the agent keeps of a removal, as far as it matters here.
#[derive(Deserialize)]
struct Removal {
    cluster: ClusterId,
    name: String,
    node: NodeId,
    #[serde(default)]
    how: Option<String>,
}

/// A node that was removed from its cluster makes no secret: it is the one machine that should not have the next one. One
/// that has left by itself may, and so may one that has another life since.
fn may_make_one(places: &Places) -> Result<(), Failed> {
    let path = places.state_dir().join(REMOVAL_FILE);
    // Whoever may not read it cannot write the secret either, which is said then.
    let Ok(text) = std::fs::read(&path) else { return Ok(()) };
    let unclear = |e: String| {
        Failed::usage(format!(
            "whether this node was removed from its cluster cannot be told: {}: {e}; no secret was made. `pkgctl status` says \
             what it is",
            path.display()
        ))
    };
    let removal: Removal = serde_json::from_slice(&text).map_err(|e| unclear(e.to_string()))?;
    let now = crate::raft::identity(&places.state_dir()).map_err(|e| unclear(e.to_string()))?;
    let says = now.is_none_or(|now| (now.cluster, now.node) == (removal.cluster, removal.node));
    if !says || removal.how.as_deref() == Some("left") {
        return Ok(());
    }
    let Removal { cluster, name, node, how: _ } = removal;
    Err(Failed::rejected(format!(
        "this node (id {node}) was removed from cluster {name} ({cluster}): a new secret would be on the machine that it is to \
         shut out, and nowhere else; nothing was changed. On a node that stays: `pkgctl cluster secret --renew`, then copy \
         that node's file to every other node that stays"
    )))
}

/// The secret of this machine; none where there is none.
pub fn read(places: &Places) -> Result<Option<SharedSecret>, Failed> {
    Ok(SharedSecret::read(&places.secret_file())?)
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

/// What is known of a cluster where somebody was asked.
#[derive(Debug)]
pub enum There {
    /// There is one that shares the secret, and this lets a node in.
    Token(JoinToken),
    /// There is none: a node said that it is in none, or every address refused the connection. Which it was.
    NoCluster(Failed),
    /// There may be one. Silence, a broken connection or a refusal says nothing about that.
    Unclear(Failed),
}

/// What one address said.
enum Heard {
    Token(JoinToken),
    /// The node there is in no cluster, by its own word.
    InNone(Failed),
    NobodyListens(Failed),
    Unclear(Failed),
}

/// Asks the node at that address for a join token: at its cluster port, or where it serves plain HTTP, which says where
/// the members' cluster ports are. Whoever gives one must prove the secret.
pub async fn there(places: &Places, given: &str) -> There {
    match prepared(places, given).await {
        Ok((secret, addresses)) => heard(&addresses, &secret).await,
        Err(failed) => There::Unclear(failed),
    }
}

/// The same for who wants the token and nothing else.
pub async fn token_from(places: &Places, given: &str) -> Result<JoinToken, Failed> {
    match there(places, given).await {
        There::Token(token) => Ok(token),
        There::NoCluster(failed) | There::Unclear(failed) => Err(failed),
    }
}

async fn prepared(places: &Places, given: &str) -> Result<(SharedSecret, Vec<SocketAddr>), Failed> {
    let secret = read(places)?.ok_or_else(|| no_secret(places))?;
    Ok((secret, resolve(given).await?))
}

/// All addresses of one node, in turn. Its own word counts at whichever of them it is heard.
async fn heard(addresses: &[SocketAddr], secret: &SharedSecret) -> There {
    let (mut refused, mut unclear) = (None, None);
    for address in addresses {
        match at(*address, secret).await {
            Heard::Token(token) => return There::Token(token),
            Heard::InNone(why) => return There::NoCluster(why),
            Heard::NobodyListens(why) => refused = refused.or(Some(why)),
            Heard::Unclear(why) => unclear = unclear.or(Some(why)),
        }
    }
    match (unclear, refused) {
        (None, Some(why)) => There::NoCluster(why),
        (Some(why), _) => There::Unclear(why),
        (None, None) => There::Unclear(Failed::unreachable("there is no address to ask at".to_owned())),
    }
}

async fn at(address: SocketAddr, secret: &SharedSecret) -> Heard {
    match ask(address, secret).await {
        Ok(token) => Heard::Token(token),
        Err(error @ IntroductionError::InNoCluster { .. }) => Heard::InNone(explained(&error)),
        Err(error @ IntroductionError::NobodyListens { .. }) => Heard::NobodyListens(explained(&error)),
        Err(IntroductionError::NotOurs { .. }) => match members_behind(address).await {
            Ok(Some(members)) => first(&members, secret).await.map_or_else(Heard::Unclear, Heard::Token),
            Ok(None) => {
                let why = format!("the node at {address} is in no cluster itself; nothing was changed");
                Heard::InNone(Failed::unreachable(why))
            }
            Err(why) => Heard::Unclear(Failed::unreachable(why)),
        },
        Err(error) => Heard::Unclear(explained(&error)),
    }
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
        IntroductionError::Unreachable { .. }
        | IntroductionError::NobodyListens { .. }
        | IntroductionError::Silent { .. }
        | IntroductionError::NotOurs { .. }
        | IntroductionError::Busy { .. }
        | IntroductionError::InNoCluster { .. } => Failed::unreachable(text),
        IntroductionError::Unproved { .. } | IntroductionError::Refused { .. } | IntroductionError::Token { .. } => {
            Failed::rejected(text)
        }
        IntroductionError::BrokeOff { .. } => Failed::unknown(error.to_string()),
    }
}

fn no_secret(places: &Places) -> Failed {
    Failed::by_hand(format!(
        "this is no token, so a member's address is meant, and there is no secret in {}, by which that member would let this \
         node in: copy it from a member, where `pkgctl cluster secret` makes it. Or, without a secret:\n  on a member:  pkgctl cluster token\n  here:         pkgctl cluster join TOKEN",
        places.secret_file().display()
    ))
}

/// The cluster ports of the members, the leader's first, by the word of a plain HTTP port: only where to ask. None where
/// that says that its node is in no cluster.
async fn members_behind(http: SocketAddr) -> Result<Option<Vec<SocketAddr>>, String> {
    let call = Call { within: ASK_WITHIN, ..Call::new(Method::GET, "/v1/status") };
    let answer = Endpoint::Plain(http).call(&call).await.map_err(|e| e.to_string())?;
    let status = serde_json::from_slice::<Status>(&answer.body).ok().filter(|_| answer.status == 200);
    let status =
        status.ok_or_else(|| format!("what answers at {http} is neither a cluster port nor plain HTTP of pkgctl"))?;
    let Some(cluster) = status.cluster else { return Ok(None) };
    let mut nodes: Vec<_> = cluster.nodes.iter().filter(|node| node.voter && !node.leaving).collect();
    nodes.sort_by_key(|node| (Some(&node.name) != cluster.leader.as_ref(), node.address.ip() != http.ip()));
    Ok(Some(nodes.into_iter().map(|node| node.address).collect()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn port() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn of(addresses: &[SocketAddr]) -> There {
        heard(addresses, &SharedSecret::of([9; 32])).await
    }

    /// Answers every connection with the same bytes, once it has been spoken to.
    async fn answers(listener: TcpListener, bytes: String) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(bytes.as_bytes()).await;
        }
    }

    #[tokio::test]
    async fn only_a_nodes_word_and_a_refused_connection_say_that_there_is_no_cluster() {
        let (listener, closed) = port().await;
        drop(listener);
        assert!(matches!(of(&[closed]).await, There::NoCluster(_)));
        // As with a frozen agent: the kernel takes the connection, and nobody speaks.
        let (_frozen, silent) = port().await;
        assert!(matches!(of(&[silent]).await, There::Unclear(_)));
        assert!(matches!(of(&[closed, silent]).await, There::Unclear(_)));
        let (other, stranger) = port().await;
        let (gone, ends) = port().await;
        let body = "not found";
        let not_ours = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        tokio::select! {
            () = answers(other, not_ours) => unreachable!("it goes on"),
            () = answers(gone, String::new()) => unreachable!("it goes on"),
            unclear = async { (of(&[stranger]).await, of(&[ends]).await) } => {
                assert!(matches!(unclear, (There::Unclear(_), There::Unclear(_))), "{unclear:?}");
            }
        }
        assert!(matches!(of(&[]).await, There::Unclear(_)));
    }

    #[test]
    fn a_removed_node_makes_no_secret_and_one_with_another_life_does() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::under(Some(dir.path()));
        may_make_one(&places).unwrap();
        std::fs::create_dir_all(places.state_dir()).unwrap();
        let removal = |how: &str| {
            let text = format!(
                r#"{{"cluster":"0000000000000007","name":"prod","node":3,"index":9,{how}"by":"n1","since":5}}"#
            );
            std::fs::write(places.state_dir().join(REMOVAL_FILE), text).unwrap();
        };
        for how in ["", r#""how":"removed","#] {
            removal(how);
            let refused = may_make_one(&places).unwrap_err();
            assert_eq!(refused.number(), 4, "{}", refused.message);
            for words in ["removed from cluster prod", "nothing was changed", "On a node that stays"] {
                assert!(refused.message.contains(words), "{}", refused.message);
            }
        }
        removal(r#""how":"left","#);
        may_make_one(&places).unwrap();
        removal("");
        let (cluster, node) = (ClusterId(7), NodeId(8));
        let later = crate::raft::Identity { cluster, node, profile: crate::engine::Profile::Default };
        crate::raft::create_store(&places.state_dir(), later).unwrap();
        may_make_one(&places).unwrap();
    }

    #[tokio::test]
    async fn plain_http_says_whether_its_node_is_in_a_cluster() {
        let (listener, address) = port().await;
        let status = serde_json::json!({
            "cluster": null, "local": crate::api::local::Local::default(), "node": "n1", "applied": 0, "stale": false,
            "packages": [],
        });
        let body = status.to_string();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        tokio::select! {
            () = answers(listener, answer) => unreachable!("it goes on"),
            none = async { of(&[address]).await } => assert!(matches!(none, There::NoCluster(_)), "{none:?}"),
        }
    }
}
