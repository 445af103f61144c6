//! Calls between members.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pkgctl::engine::{ClusterId, LogIndex, NodeId};
use pkgctl::net::identity::Credentials;
use pkgctl::net::peers::{BODY_MAX_BYTES, Patience, TlsPeers};
use pkgctl::net::removed::Removed;
use pkgctl::net::tls::Service;
use pkgctl::raft::peers::{PeerCall, PeerError, Peers};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::cluster::{Cluster, LONG, NoJoin, Served, patience, peers, raw};

fn why(outcome: Result<Vec<u8>, PeerError>) -> String {
    match outcome {
        Err(PeerError::Unreachable { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

async fn ask(peers: &TlsPeers, served: &Served, to: u64, body: &[u8]) -> Result<Vec<u8>, PeerError> {
    peers.call(NodeId(to), served.address, PeerCall::Ask, body.to_vec(), LONG).await
}

#[tokio::test]
async fn a_call_is_answered_to_the_node_that_the_certificate_proves() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let answer = ask(&peers(cluster.node(7)), &served, 2, b"hello").await.unwrap();
    assert_eq!(answer, [&[7, PeerCall::Ask as u8], b"hello".as_slice()].concat());
}

#[tokio::test]
async fn calls_one_after_another_share_a_connection() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let peers = peers(cluster.node(1));
    for _ in 0..20 {
        ask(&peers, &served, 2, b"x").await.unwrap();
    }
    assert_eq!(served.connections(), 1);
}

#[tokio::test]
async fn calls_at_the_same_time_do_not_wait_for_each_other() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let peers = peers(cluster.node(1));
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let (peers, address) = (peers.clone(), served.address);
            tokio::spawn(async move { peers.call(NodeId(2), address, PeerCall::Ask, b"hold".to_vec(), LONG).await })
        })
        .collect();
    // All sixteen are being served before any is answered.
    served.echo.until_held(16).await;
    served.echo.gate.add_permits(16);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_crowd_of_proposals_does_not_keep_a_heartbeat_from_a_connection() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let peers = peers(cluster.node(1));
    let crowd: Vec<_> = (0..100)
        .map(|_| {
            let (peers, address) = (peers.clone(), served.address);
            tokio::spawn(async move { peers.call(NodeId(2), address, PeerCall::Propose, b"hold".to_vec(), LONG).await })
        })
        .collect();
    served.echo.until_held(32).await;
    let beat = peers.call(NodeId(2), served.address, PeerCall::Append, vec![], LONG).await;
    assert_eq!(beat.unwrap(), [1, PeerCall::Append as u8]);
    // The bound of connections holds, and those who waited get their turn.
    assert_eq!(served.echo.holding.load(Ordering::SeqCst), 32);
    served.echo.gate.add_permits(100);
    for call in crowd {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn another_node_at_the_address_is_found_out() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let refused = why(ask(&peers(cluster.node(1)), &served, 9, b"x").await);
    assert!(refused.contains("it proved to be node 2, not node 9"), "{refused}");
    assert_eq!(served.connections(), 0);
}

#[tokio::test]
async fn a_server_of_another_authority_is_found_out() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let served = Served::node(&theirs, 2);
    let refused = why(ask(&peers(ours.node(1)), &served, 2, b"x").await);
    assert!(refused.contains("not signed by this cluster's authority"), "{refused}");
}

#[tokio::test]
async fn a_server_of_another_cluster_under_the_same_authority_is_found_out() {
    let ours = Cluster::new();
    let copied = pkgctl::net::identity::Authority::load(
        ClusterId(0xdead),
        ours.authority.certificate_pem(),
        &ours.authority.key_pem(),
    );
    let restored = Cluster { authority: copied.unwrap() };
    let served = Served::node(&restored, 2);
    let refused = why(ask(&peers(ours.node(1)), &served, 2, b"x").await);
    assert!(refused.contains("it belongs to cluster 000000000000dead"), "{refused}");
    // And the other way round, when only the server looks.
    let served = Served::node(&ours, 2);
    assert!(knock(&served, Service::Peer, Some(&restored.node(1))).await.is_err());
    assert_eq!(served.connections(), 0);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side() {
    let cluster = Cluster::new();
    let served =
        Served::with(cluster.expired_node(2), "127.0.0.1:0", std::sync::Arc::new(super::cluster::NoJoin::default()));
    let refused = why(ask(&peers(cluster.node(1)), &served, 2, b"x").await);
    assert!(refused.contains("its certificate has expired"), "{refused}");
    let served = Served::node(&cluster, 2);
    let refused = why(ask(&peers(cluster.expired_node(1)), &served, 2, b"x").await);
    assert!(refused.contains("our certificate has expired"), "{refused}");
    assert_eq!(served.connections(), 0);
}

#[tokio::test]
async fn a_node_that_is_no_member_any_more_is_told_so_before_it_sends_anything() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let refused = why(ask(&peers(cluster.node(101)), &served, 2, b"x").await);
    assert!(refused.contains("node 101 is not a member of this cluster"), "{refused}");
}

#[tokio::test]
async fn a_node_that_is_removed_loses_the_connections_that_it_has() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let (removed, other) = (peers(cluster.node(1)), peers(cluster.node(3)));
    ask(&removed, &served, 2, b"x").await.unwrap();
    ask(&other, &served, 2, b"x").await.unwrap();
    served.removed.store(1, Ordering::SeqCst);
    let refused = ask(&removed, &served, 2, b"y").await.unwrap_err().to_string();
    assert!(refused.contains("this node was removed from the cluster by entry 1000"), "{refused}");
    assert_eq!(served.echo.calls.load(Ordering::SeqCst), 2, "the call reached nobody");
    ask(&other, &served, 2, b"y").await.unwrap();
}

#[tokio::test]
async fn a_removed_node_is_told_so_by_whoever_it_turns_to_and_nobody_else_is() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    served.removed.store(9, Ordering::SeqCst);
    let (removed, stranger) = (peers(cluster.node(9)), peers(cluster.node(101)));
    let refused = why(ask(&removed, &served, 2, b"x").await);
    assert!(refused.contains("entry 1000"), "{refused}");
    let word = Removed { cluster: cluster.authority.cluster(), node: NodeId(9), index: LogIndex(1000) };
    assert_eq!(removed.removed().await, (word, NodeId(2)));
    assert!(ask(&stranger, &served, 2, b"x").await.is_err());
    let told = tokio::time::timeout(Duration::from_millis(50), stranger.removed()).await;
    assert!(told.is_err(), "a refusal alone is no such word");
}

#[tokio::test]
async fn who_is_not_the_member_that_was_meant_cannot_say_that_a_node_was_removed() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    for liar in [other.node(2), cluster.node(3)] {
        let served = Served::with(liar, "127.0.0.1:0", Arc::new(NoJoin::default()));
        served.removed.store(9, Ordering::SeqCst);
        let peers = peers(cluster.node(9));
        assert!(ask(&peers, &served, 2, b"x").await.is_err());
        let told = tokio::time::timeout(Duration::from_millis(50), peers.removed()).await;
        assert!(told.is_err(), "it proved to be another one than node 2 of the cluster");
    }
}

/// Shakes hands as `credentials` without looking at the server, and reads the first byte of its greeting.
async fn knock(served: &Served, service: Service, credentials: Option<&Credentials>) -> Result<u8, String> {
    let stream = raw::connect(served.address, &[service.alpn()], credentials, &TLS13).await;
    let mut stream = stream.map_err(|e| e.to_string())?;
    stream.read_u8().await.map_err(|e| e.to_string())
}

#[tokio::test]
async fn only_a_members_certificate_opens_the_members_service() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    assert_eq!(knock(&served, Service::Peer, Some(&cluster.node(1))).await, Ok(0), "this is what works");
    let none = knock(&served, Service::Peer, None).await.unwrap_err();
    assert!(none.contains("CertificateRequired"), "{none}");
    let stranger = Cluster::new().node(1);
    assert!(knock(&served, Service::Peer, Some(&stranger)).await.is_err());
    assert!(knock(&served, Service::Peer, Some(&cluster.operator("alice"))).await.is_err());
    assert_eq!(served.connections(), 1, "the others were never asked about");
}

#[tokio::test]
async fn older_tls_and_unknown_protocols_are_refused() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let node = cluster.node(1);
    assert!(raw::connect(served.address, &[Service::Peer.alpn()], Some(&node), &TLS12).await.is_err());
    let refused = raw::connect(served.address, &[b"h2"], Some(&node), &TLS13).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
}

#[tokio::test]
async fn a_restarted_node_is_reached_by_the_next_call() {
    let cluster = Cluster::new();
    let credentials = cluster.node(2);
    let served =
        Served::with(credentials.clone(), "127.0.0.1:0", std::sync::Arc::new(super::cluster::NoJoin::default()));
    let peers = peers(cluster.node(1));
    ask(&peers, &served, 2, b"x").await.unwrap();
    let address = served.address.to_string();
    served.stop().await;
    let again = Served::with(credentials, &address, std::sync::Arc::new(super::cluster::NoJoin::default()));
    ask(&peers, &again, 2, b"y").await.expect("the dead connection is not used");
}

#[tokio::test]
async fn a_call_that_is_not_answered_in_time_says_so_and_the_next_one_works() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let peers = peers(cluster.node(1));
    ask(&peers, &served, 2, b"warm").await.unwrap();
    let within = Duration::from_millis(50);
    let held = peers.call(NodeId(2), served.address, PeerCall::Ask, b"hold".to_vec(), within).await;
    assert_eq!(held, Err(PeerError::Timeout { node: NodeId(2), within }));
    ask(&peers, &served, 2, b"x").await.unwrap();
}

#[tokio::test]
async fn an_answer_that_came_late_leaves_its_connection_usable() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let peers = peers(cluster.node(1));
    ask(&peers, &served, 2, b"warm").await.unwrap();
    let within = Duration::from_millis(50);
    assert!(peers.call(NodeId(2), served.address, PeerCall::Ask, b"hold".to_vec(), within).await.is_err());
    served.echo.until_held(1).await;
    served.echo.gate.add_permits(1);
    // Answers on one connection stay in step with their requests.
    for body in [b"a", b"b", b"c"] {
        assert_eq!(ask(&peers, &served, 2, body).await.unwrap()[2..], *body);
    }
    assert!(served.connections() <= 2);
}

#[tokio::test]
async fn nobody_listening_is_told_at_once_and_nothing_was_sent() {
    let cluster = Cluster::new();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outcome = peers(cluster.node(1)).call(NodeId(2), free, PeerCall::Vote, vec![], LONG).await;
    assert!(why(outcome).contains("refused"));
}

#[tokio::test]
async fn a_silent_node_costs_few_connections_however_many_calls_want_it() {
    let cluster = Cluster::new();
    // Accepts by way of the kernel's backlog and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let peers = peers(cluster.node(1));
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let peers = peers.clone();
            let within = Duration::from_millis(100);
            tokio::spawn(async move { peers.call(NodeId(2), address, PeerCall::Append, vec![], within).await })
        })
        .collect();
    for call in calls {
        assert!(why(call.await.unwrap()).contains("no connection within"));
    }
    let mut opened = 0;
    while let Ok(accepted) = tokio::time::timeout(Duration::from_millis(200), silent.accept()).await {
        accepted.unwrap();
        opened += 1;
    }
    assert!((1..=2).contains(&opened), "{opened}");
}

#[tokio::test]
async fn a_handshake_that_takes_longer_than_a_call_serves_the_next_call() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let peers = peers(cluster.node(1));
    // The kernel takes the connection in; the handshake waits until this test passes its bytes on.
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = slow.local_addr().unwrap();
    let hasty = peers.call(NodeId(2), address, PeerCall::Append, vec![], Duration::from_millis(20)).await;
    assert!(why(hasty).contains("no connection within"));
    // That call has given up; what it began goes on.
    let pass_on = async {
        let mut begun = slow.accept().await.unwrap().0;
        let mut there = TcpStream::connect(served.address).await.unwrap();
        tokio::io::copy_bidirectional(&mut begun, &mut there).await
    };
    tokio::select! {
        answer = peers.call(NodeId(2), address, PeerCall::Append, vec![], LONG) => drop(answer.unwrap()),
        ended = pass_on => panic!("the connection ended: {ended:?}"),
    }
    assert_eq!(served.connections(), 1);
}

#[tokio::test]
async fn a_broken_connection_is_told_from_one_that_never_was() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let peers = peers(cluster.node(1));
    let (caller, address) = (peers.clone(), served.address);
    let call =
        tokio::spawn(async move { caller.call(NodeId(2), address, PeerCall::Propose, b"hold".to_vec(), LONG).await });
    served.echo.until_held(1).await;
    served.stop().await;
    assert!(matches!(call.await.unwrap(), Err(PeerError::Broken { node: NodeId(2), .. })));
}

#[tokio::test]
async fn a_connection_without_an_answer_is_given_up_after_its_linger() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let short = Patience { linger: Duration::from_millis(10), ..patience() };
    let peers = TlsPeers::new(cluster.node(1), short);
    let within = Duration::from_millis(10);
    // More calls are held than there may be connections: each is given up, so that the next finds a place.
    for held in 1..=12 {
        let call = async {
            loop {
                let outcome = peers.call(NodeId(2), served.address, PeerCall::Vote, b"hold".to_vec(), within).await;
                if matches!(outcome, Err(PeerError::Timeout { .. })) {
                    return;
                }
            }
        };
        tokio::time::timeout(LONG, call).await.unwrap_or_else(|_| panic!("call {held} found no place"));
    }
}

#[tokio::test]
async fn a_call_may_be_as_large_as_it_is_accepted_and_no_larger() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let peers = peers(cluster.node(1));
    // An answer repeats its request with two bytes before it.
    let mut large = vec![7; BODY_MAX_BYTES - 2];
    let answer = peers.call(NodeId(2), served.address, PeerCall::Snapshot, large.clone(), LONG).await.unwrap();
    assert!(answer[2..] == large);
    large.extend([7; 3]);
    let refused = why(peers.call(NodeId(2), served.address, PeerCall::Snapshot, large, LONG).await);
    assert!(refused.contains("are accepted"), "{refused}");
}

#[tokio::test]
async fn frames_that_no_client_of_ours_sends_are_refused_in_words() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let frames: [(&[u8], &str); 2] =
        [(&[0xff, 0xff, 0xff, 0xff, 1], "is larger than"), (&[0, 0, 0, 1, 99, 0], "it made call 99")];
    for (frame, expected) in frames {
        let stream = raw::connect(served.address, &[Service::Peer.alpn()], Some(&cluster.node(1)), &TLS13).await;
        let mut stream = stream.unwrap();
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, [0; 5]);
        stream.write_all(frame).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        // Ends without a TLS goodbye or with one; what counts is that it ends, with the reason.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains(expected), "{answer}");
    }
}
