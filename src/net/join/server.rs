//! The member's side of a join.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::ports::{prove_tcp, prove_udp};
use super::{
    ADMIT_TIME_MAX, ASK_MAX_BYTES, JoinRequest, JoinService, KeeperPort, LINKS_MAX, PROOF_TIME_MAX, TalkError,
    ToJoiner, ToMember, VERSION, Welcome, hear, say,
};
use crate::engine::lease::Message;
use crate::net::datagram::{self, JOINER};
use crate::net::random;
use crate::net::token::Secret;

/// How long a joiner has for its first message.
const ASK_TIME_MAX: Duration = Duration::from_secs(5);

/// Serves one join. `here` and `there` are the two ends of the tcp connection.
///
/// # Errors
/// When the talk ended without an answer; a refusal is an answer.
pub async fn serve<J: JoinService>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    here: SocketAddr,
    there: SocketAddr,
    service: &J,
) -> Result<(), TalkError> {
    let ToMember::Ask(ask) = hear(stream, ASK_MAX_BYTES, ASK_TIME_MAX).await? else {
        return Err(TalkError::OutOfTurn);
    };
    let answer = match consider(stream, here, there, service, ask).await? {
        Ok(welcome) => ToJoiner::Welcome(welcome),
        Err(why) => ToJoiner::Refused { why },
    };
    say(stream, &answer).await
}

/// Tells one who wants to join to ask again, once it has spoken: what nobody has read would end the stream before it hears.
///
/// # Errors
/// It said nothing, or the stream's own.
pub async fn put_off(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), TalkError> {
    hear::<ToMember>(stream, ASK_MAX_BYTES, ASK_TIME_MAX).await?;
    say(stream, &ToJoiner::Busy {}).await
}

async fn consider<J: JoinService>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    here: SocketAddr,
    there: SocketAddr,
    service: &J,
    ask: JoinRequest,
) -> Result<Result<Welcome, String>, TalkError> {
    let digest = Secret::digest_of(&ask.secret);
    let checked = match check(&ask, there.ip()) {
        Ok(()) => service.check(&digest, &ask).await,
        Err(why) => Err(why),
    };
    let keeper = match checked.and_then(|()| service.keeper()) {
        Ok(keeper) => keeper,
        Err(why) => return Ok(Err(why)),
    };
    let problems = prove(stream, here.ip(), &ask, &keeper).await?;
    if !problems.is_empty() {
        let nothing = "Nothing was changed, and the token can be used again.";
        return Ok(Err(format!("{}\n{nothing}", problems.join("\n"))));
    }
    let admitted = timeout(ADMIT_TIME_MAX, service.admit(digest, ask)).await;
    Ok(admitted.unwrap_or_else(|_| {
        Err(format!(
            "the cluster did not take the node in within {ADMIT_TIME_MAX:?}: it may have no leader (`pkgctl status` on a \
             member). Join again with the same token; if the node was taken in after all, it gets the same id"
        ))
    }))
}

/// What can be said about a request without looking at the state.
fn check(ask: &JoinRequest, source: IpAddr) -> Result<(), String> {
    if ask.version != VERSION {
        return Err(format!(
            "this node speaks version {} of the join protocol, the member speaks {VERSION}: install the same pkgctl on both",
            ask.version
        ));
    }
    if ask.address.port() == 0 {
        return Err("the announced address has port 0: give this node a fixed port".into());
    }
    if ask.links.len() > LINKS_MAX {
        return Err(format!("{} links are announced, {LINKS_MAX} are possible", ask.links.len()));
    }
    if ask.address.ip().to_canonical() != source.to_canonical() {
        return Err(format!(
            "this node announces the address {}, but its request came from {source}: announce an address of this node \
             that the member sees as it is, without address translation between them",
            ask.address.ip()
        ));
    }
    Ok(())
}

/// Proves both ports in both directions, at the same time; returns a sentence per failure.
async fn prove(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    here: IpAddr,
    ask: &JoinRequest,
    keeper: &KeeperPort,
) -> Result<Vec<String>, TalkError> {
    let nonce = random::nonce();
    let ping = datagram::seal(&keeper.keys, keeper.cluster, JOINER, keeper.node, &Message::Ping { nonce });
    say(stream, &ToJoiner::Probe { keeper: keeper.address, ping }).await?;
    let within = PROOF_TIME_MAX * 2;
    let (tcp, udp, seen) = tokio::join!(
        prove_tcp(here, ask.address, ask.proof),
        prove_udp(here, ask.address, ask.proof),
        hear::<ToMember>(stream, ASK_MAX_BYTES, within),
    );
    let ToMember::Seen { pong } = seen? else { return Err(TalkError::OutOfTurn) };
    let (name, port, there) = (&ask.name, ask.address.port(), ask.address.ip());
    let mut problems = Vec::new();
    for (protocol, outcome) in [("tcp", tcp), ("udp", udp)] {
        if let Err(why) = outcome {
            problems.push(format!(
                "{protocol} port {port} of {name} ({there}) cannot be reached from the member ({here}): {why}. Let \
                 {protocol} {port} from {here} through the firewall of {name}."
            ));
        }
    }
    let answered = pong.and_then(|bytes| datagram::open(&keeper.keys, keeper.cluster, JOINER, &bytes).ok());
    if !matches!(answered, Some((from, Message::Pong { nonce: n, .. })) if from == keeper.node && n == nonce) {
        let (member, port) = (keeper.address.ip(), keeper.address.port());
        problems.push(format!(
            "udp port {port} of the member ({member}) did not answer datagrams from {name} ({there}). Let udp {port} from \
             {there} through the firewall of the member, and see there that its keeper runs (`pkgctl status`)."
        ));
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::io::{DuplexStream, duplex};

    use super::super::ANSWER_MAX_BYTES;
    use super::*;
    use crate::engine::state::DatagramKey;
    use crate::engine::{ClusterId, NodeId, Nonce};
    use crate::net::datagram::Keys;
    use crate::package::NodeName;

    /// Knows one secret; has a keeper that never answers; must not be asked to admit anybody.
    struct Deaf;

    impl JoinService for Deaf {
        async fn check(&self, token_digest: &str, _: &JoinRequest) -> Result<(), String> {
            let known = token_digest == Secret::digest_of("right");
            known.then_some(()).ok_or_else(|| "the join token is unknown".into())
        }

        fn keeper(&self) -> Result<KeeperPort, String> {
            let keys = Keys::new(&BTreeMap::from([(1, DatagramKey([1; 32]))]));
            let address = "127.0.0.1:9".parse().unwrap();
            Ok(KeeperPort { keys, cluster: ClusterId(1), node: NodeId(1), address })
        }

        async fn admit(&self, _: String, ask: JoinRequest) -> Result<Welcome, String> {
            panic!("{ask:?} was admitted without proof")
        }
    }

    fn ask(secret: &str, address: &str) -> JoinRequest {
        JoinRequest {
            version: VERSION,
            secret: secret.into(),
            name: NodeName::new("n2").unwrap(),
            address: address.parse().unwrap(),
            links: vec![],
            csr: String::new(),
            request: Nonce(1),
            proof: Nonce(2),
        }
    }

    /// What the member answers to a joiner that comes from 127.0.0.1, answers no probe and has heard no keeper.
    async fn answers(ask: JoinRequest) -> Vec<ToJoiner> {
        answers_to(ask, |_| None).await
    }

    /// The same, with a keeper's answer made from the sealed ping.
    async fn answers_to(ask: JoinRequest, pong: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<ToJoiner> {
        let (mut member, mut joiner): (DuplexStream, DuplexStream) = duplex(1 << 16);
        let there = "127.0.0.1:40000".parse().unwrap();
        let serving = serve(&mut member, "127.0.0.1:7447".parse().unwrap(), there, &Deaf);
        let joining = async {
            say(&mut joiner, &ToMember::Ask(ask)).await.unwrap();
            let mut heard = Vec::new();
            loop {
                let answer = hear(&mut joiner, ANSWER_MAX_BYTES, PROOF_TIME_MAX * 3).await.unwrap();
                let ping = if let ToJoiner::Probe { ping, .. } = &answer { Some(ping.clone()) } else { None };
                heard.push(answer);
                let Some(ping) = ping else { return heard };
                say(&mut joiner, &ToMember::Seen { pong: pong(&ping) }).await.unwrap();
            }
        };
        let (served, heard) = tokio::join!(serving, joining);
        served.unwrap();
        heard
    }

    fn refusal(answers: &[ToJoiner]) -> &str {
        match answers.last() {
            Some(ToJoiner::Refused { why }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn every_port_that_does_not_work_is_named_with_its_remedy() {
        // Port 1 of loopback: nobody listens there.
        let answers = answers(ask("right", "127.0.0.1:1")).await;
        let why = refusal(&answers);
        assert!(why.contains("tcp port 1 of n2 (127.0.0.1) cannot be reached"), "{why}");
        assert!(why.contains("udp port 1 of n2 (127.0.0.1) cannot be reached"), "{why}");
        assert!(why.contains("udp port 9 of the member (127.0.0.1) did not answer"), "{why}");
        assert!(why.contains("Let tcp 1 from 127.0.0.1 through the firewall of n2"), "{why}");
        assert!(why.contains("Nothing was changed"), "{why}");
    }

    #[tokio::test]
    async fn only_the_members_own_keeper_can_answer_the_sealed_ping() {
        let keys = || Deaf.keeper().unwrap().keys;
        let pong = |ping: &[u8], from: NodeId, off: u64| {
            let opened = datagram::open(&keys(), ClusterId(1), NodeId(1), ping).unwrap();
            let (JOINER, Message::Ping { nonce }) = opened else { panic!("{opened:?}") };
            let answer = Message::Pong { nonce: Nonce(nonce.0.wrapping_add(off)), ready: false };
            Some(datagram::seal(&keys(), ClusterId(1), from, JOINER, &answer))
        };
        let (good, stranger, stale, echo) = tokio::join!(
            answers_to(ask("right", "127.0.0.1:1"), |ping| pong(ping, NodeId(1), 0)),
            answers_to(ask("right", "127.0.0.1:1"), |ping| pong(ping, NodeId(2), 0)),
            answers_to(ask("right", "127.0.0.1:1"), |ping| pong(ping, NodeId(1), 1)),
            answers_to(ask("right", "127.0.0.1:1"), |ping| Some(ping.to_vec())),
        );
        assert!(!refusal(&good).contains("did not answer datagrams"));
        for bad in [stranger, stale, echo] {
            assert!(refusal(&bad).contains("did not answer datagrams"));
        }
    }

    #[tokio::test]
    async fn without_the_secret_nothing_is_probed() {
        let answers = answers(ask("wrong", "127.0.0.1:1")).await;
        assert_eq!(answers.len(), 1);
        assert_eq!(refusal(&answers), "the join token is unknown");
    }

    #[tokio::test]
    async fn only_the_address_that_a_request_came_from_is_probed() {
        let answers = answers(ask("right", "127.0.0.2:7447")).await;
        assert_eq!(answers.len(), 1);
        assert!(refusal(&answers).contains("its request came from 127.0.0.1"));
    }

    #[tokio::test]
    async fn another_version_and_too_many_links_are_refused_by_name() {
        let mut newer = ask("right", "127.0.0.1:1");
        newer.version = VERSION + 1;
        assert!(refusal(&answers(newer).await).contains("install the same pkgctl on both"));
        let mut linked = ask("right", "127.0.0.1:1");
        linked.links = vec![linked.address; LINKS_MAX + 1];
        assert!(refusal(&answers(linked).await).contains("links are announced"));
    }

    #[tokio::test]
    async fn a_message_out_of_turn_ends_the_talk() {
        let (mut member, mut joiner) = duplex(1 << 16);
        say(&mut joiner, &ToMember::Seen { pong: None }).await.unwrap();
        let here = "127.0.0.1:7447".parse().unwrap();
        assert!(matches!(serve(&mut member, here, here, &Deaf).await, Err(TalkError::OutOfTurn)));
    }
}
