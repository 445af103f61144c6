//! How a node comes into a cluster: by the words that an operator would type on it, on its own socket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Home;
use super::settle::Entry;
use crate::api::types::{MEMBER_UNREACHABLE, TOKEN_REFUSED};
use crate::cli::args::{Args, Cluster, ClusterInit, ClusterJoin, ProfileArg, Status, Verb};
use crate::cli::exit::Failed;
use crate::cli::introduction::{There, there, token_from};
use crate::cli::{perform, until_it_answers};
use crate::net::token::JoinToken;
use crate::package::ClusterName;

/// How long an agent may take to start: it reads and checks its whole store first.
const STARTS_WITHIN: Duration = Duration::from_secs(300);
/// Pause between two rounds of asking to be let in.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// So many rounds in a row must find that nobody is in a cluster: an agent that is started again, or that joins, refuses
/// connections for a moment.
const ROUNDS_TO_BE_SURE: u32 = 5;
/// Reasons for waiting that are told, each once.
const REASONS_MAX: usize = 16;

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Entering {
    pub(super) entry: Entry,
    /// Ask again and again, until somebody lets this node in.
    pub(super) patient: bool,
    /// Nodes that may have a cluster already; then this one joins it, and makes none.
    pub(super) unless: Vec<String>,
    pub(super) profile: ProfileArg,
}

/// Does it, once the agent is there.
pub(super) async fn enter(home: &Home, entering: &Entering) -> Result<(), Failed> {
    wait_for_agent(home).await?;
    match &entering.entry {
        Entry::Settled => Ok(()),
        Entry::Wait => {
            super::serve::say("in no cluster: waiting to be added from a member (pkgctl raft add NAME ADDRESS)");
            Ok(())
        }
        Entry::Init => {
            match before_founding(home, entering).await {
                Before::Nobody => {
                    // What is said here may go to a file: no token in it. Others come in by the secret.
                    let init = ClusterInit { name: ClusterName::default(), profile: entering.profile, no_token: true };
                    perform(&args(home, Cluster::Init(init))).await
                }
                Before::Known(kept) => join_any(home, &entering.unless, entering.patient, kept).await,
                Before::Settled => Ok(()),
            }
        }
        Entry::Join(others) => join_any(home, others, entering.patient, Kept::default()).await,
    }
}

/// Why something is still being tried, as far as it was said.
#[derive(Default)]
struct Told(BTreeSet<String>);

impl Told {
    /// Says it, unless it was said. What is to be done about it is said with the first reason only.
    fn once(&mut self, what: &str, why: &Failed, advice: impl FnOnce() -> Option<String>) {
        let first = self.0.is_empty();
        if self.0.len() < REASONS_MAX && self.0.insert(why.message.clone()) {
            super::serve::say(&format!("{what}: {}", why.message));
            advice().filter(|_| first).iter().for_each(|text| super::serve::say(text));
        }
    }
}

/// What is known before a cluster is made.
enum Before {
    /// The others are in none.
    Nobody,
    /// One of them is in one, and gave a token.
    Known(Kept),
    /// This node has come into one meanwhile: somebody typed it here, or invited it.
    Settled,
}

/// What one round of questions found.
#[derive(Debug)]
enum Round {
    Nobody,
    Known(String, JoinToken),
    Unclear(Failed),
}

/// A second cluster must not be made beside one whose nodes cannot be heard. So nobody's silence counts, nor any refusal to
/// let this node in: each of the others must have said that it is in none, or its machine must refuse connections, in
/// several rounds. Until then they are asked again.
async fn before_founding(home: &Home, entering: &Entering) -> Before {
    let (mut told, mut sure) = (Told::default(), 0);
    while !entering.unless.is_empty() && sure < ROUNDS_TO_BE_SURE {
        let round = round(home, &entering.unless).await;
        if home.has_state() {
            return Before::Settled;
        }
        match round {
            Round::Nobody => sure += 1,
            Round::Known(other, token) => {
                super::serve::say(&format!("{other} is in a cluster already: joining that"));
                return Before::Known(Kept([(other, token)].into()));
            }
            Round::Unclear(why) => {
                sure = 0;
                let what = "no cluster is made while another one may be there";
                told.once(what, &why, || Some(advice(home, entering)));
            }
        }
        sleep(ASK_EVERY).await;
    }
    Before::Nobody
}

async fn round(home: &Home, others: &[String]) -> Round {
    let mut unclear = None;
    for other in others {
        match there(&home.places, other).await {
            There::Token(token) => return Round::Known(other.clone(), token),
            There::NoCluster(_) => {}
            There::Unclear(why) => unclear = unclear.or(Some(why)),
        }
    }
    unclear.map_or(Round::Nobody, Round::Unclear)
}

/// What an operator can do who knows more than can be heard.
fn advice(home: &Home, entering: &Entering) -> String {
    let root = match home.dir.parent() {
        Some(_) => format!(" --root {}", home.dir.display()),
        None => String::new(),
    };
    let profile = clap::ValueEnum::to_possible_value(&entering.profile);
    format!(
        "{} are asked again until each has answered. If one that does not is switched off and is in no cluster, or never \
         comes back, make the cluster by hand, here: pkgctl{root} cluster init --profile {}",
        entering.unless.join(", "),
        profile.as_ref().map_or("default", |word| word.get_name())
    )
}

/// Asks one after the other; says each new reason why it came to nothing once.
async fn join_any(home: &Home, others: &[String], patient: bool, mut kept: Kept) -> Result<(), Failed> {
    let mut told = Told::default();
    loop {
        let ask = async |other: &str| token_from(&home.places, other).await;
        let failed = match kept.round(others, ask, async |token| join(home, token.to_string()).await).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        if patient && home.has_state() {
            return Ok(());
        }
        if !patient {
            return Err(failed);
        }
        told.once("not joined yet, and trying on", &failed, || None);
        sleep(ASK_EVERY).await;
    }
}

/// Tokens by those who gave them. Each is in the cluster's log until it is used or expires, and there is room for few: as long
/// as it may be good no other is asked for.
#[derive(Debug, Default)]
struct Kept(BTreeMap<String, JoinToken>);

impl Kept {
    /// Tries to join by each of them in turn; the failure of the last join, or else the first reason why no token came.
    async fn round(
        &mut self,
        others: &[String],
        ask: impl AsyncFn(&str) -> Result<JoinToken, Failed>,
        join: impl AsyncFn(&JoinToken) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let mut missed = None;
        for other in others {
            let given = match self.0.remove(other) {
                Some(token) => Ok(token),
                None => ask(other).await,
            };
            match given {
                Ok(token) => match join(&token).await {
                    Ok(()) => return Ok(()),
                    Err(failed) => {
                        if !failed.is_any_of(&[TOKEN_REFUSED, MEMBER_UNREACHABLE]) {
                            self.0.insert(other.clone(), token);
                        }
                        missed = Some(failed);
                    }
                },
                Err(failed) => missed = missed.or(Some(failed)),
            }
        }
        Err(missed.unwrap_or_else(|| Failed::usage("nobody is named to join".to_owned())))
    }
}

async fn join(home: &Home, token: String) -> Result<(), Failed> {
    perform(&args(home, Cluster::Join(ClusterJoin { token, no_wait: false }))).await
}

/// As if this were typed on the node.
fn args(home: &Home, verb: Cluster) -> Args {
    of(home, Verb::Cluster(verb))
}

/// Any verb, on this node's socket.
pub(super) fn of(home: &Home, verb: Verb) -> Args {
    let socket = Some(home.places.api_socket());
    Args { socket, endpoint: Vec::new(), client: None, root: Some(home.dir.clone()), json: false, verb }
}

async fn wait_for_agent(home: &Home) -> Result<(), Failed> {
    let late = |_| Failed::outcome(format!("the agent has not answered within {STARTS_WITHIN:?}; its log says why"));
    timeout(STARTS_WITHIN, answers(home)).await.map_err(late)?
}

/// Waits until the node's agent is there.
pub(super) async fn answers(home: &Home) -> Result<(), Failed> {
    until_it_answers(&of(home, Verb::Status(Status { package: None }))).await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_token_is_kept_until_it_is_refused_itself() {
        let (others, asked) = (["n1".to_owned(), "n2".to_owned()], Cell::new(0));
        let ask = async |_: &str| {
            asked.set(asked.get() + 1);
            Ok(JoinToken::issue([1; 32], "127.0.0.1:7420".parse().unwrap()))
        };
        let mut kept = Kept::default();
        for _ in 0..100 {
            let refused = async |_: &JoinToken| Err(Failed::rejected("the name is taken".to_owned()));
            assert_eq!(kept.round(&others, ask, refused).await.unwrap_err().message, "the name is taken");
        }
        assert_eq!(asked.get(), 2, "one token of each");
        for code in [TOKEN_REFUSED, MEMBER_UNREACHABLE] {
            let refused = async |_: &JoinToken| Err(Failed::rejected(String::new()).with_code(Some(code.to_owned())));
            kept.round(&others, ask, refused).await.unwrap_err();
            let before = asked.get();
            kept.round(&others, ask, async |_| Ok(())).await.unwrap();
            assert_eq!(asked.get(), before + 1, "another one is asked for after {code}");
        }
    }
}
