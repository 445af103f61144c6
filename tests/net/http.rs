//! The API's plumbing: over the Unix socket and over TLS.

use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures::StreamExt;
use pkgctl::engine::NodeId;
use pkgctl::net::http::{Call, Endpoint, HttpError, Method, UnixDoor, serve_unix};
use pkgctl::net::tls::{Expect, Service};
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{Mutex, Semaphore, mpsc};

use super::cluster::{CLUSTER, Cluster, NoJoin, Served, raw, router};

struct Local {
    endpoint: Endpoint,
    task: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Local {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn local(router: axum::Router) -> Local {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let door = UnixDoor::bind(&path).unwrap();
    Local { endpoint: Endpoint::Unix(path), task: tokio::spawn(serve_unix(door, router)), _dir: dir }
}

#[tokio::test]
async fn a_local_request_carries_the_user_and_its_body() {
    let router = router().route("/echo", post(|body: String| async move { ([("x-next-offset", "7")], body) }));
    let local = local(router);
    let who = local.endpoint.request("GET", "/who", None).await.unwrap();
    assert_eq!(String::from_utf8(who.body).unwrap(), format!("user {}", nix::unistd::geteuid()));
    let echo = local.endpoint.request("POST", "/echo", Some(b"{\"a\":1}".to_vec())).await.unwrap();
    assert_eq!((echo.status, echo.body.as_slice(), echo.header("x-next-offset")), (200, &b"{\"a\":1}"[..], Some("7")));
    assert_eq!(local.endpoint.request("GET", "/nowhere", None).await.unwrap().status, 404);
}

/// Asks until somebody answers; who that is.
async fn answered(endpoint: &Endpoint) -> Vec<u8> {
    loop {
        match endpoint.request("GET", "/who", None).await {
            Ok(answer) => return answer.body,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test]
async fn a_socket_whose_name_is_taken_away_is_there_again_and_connections_go_on() {
    let local = local(router());
    let Endpoint::Unix(path) = &local.endpoint else { panic!("it is a Unix socket") };
    answered(&local.endpoint).await;
    let mut old = tokio::net::UnixStream::connect(path).await.unwrap();
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    answered(&local.endpoint).await;
    old.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn without_an_agent_the_error_says_what_to_look_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let missing = Endpoint::Unix(path.clone()).request("GET", "/who", None).await.unwrap_err();
    assert!(matches!(missing, HttpError::Unreachable { .. }));
    assert!(missing.to_string().contains("cannot reach the agent at"), "{missing}");
    assert!(missing.to_string().contains(&path.display().to_string()), "{missing}");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let dead = Endpoint::Unix(path).request("GET", "/who", None).await.unwrap_err();
    assert!(matches!(dead, HttpError::Unreachable { .. }));
}

#[tokio::test]
async fn an_agent_that_dies_over_a_request_leaves_the_outcome_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let dying = async {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
    };
    let endpoint = Endpoint::Unix(path);
    let (outcome, ()) = tokio::join!(endpoint.request("POST", "/x", None), dying);
    let lost = outcome.unwrap_err();
    assert!(matches!(lost, HttpError::Lost { .. }), "{lost}");
    assert!(lost.to_string().contains("may or may not have been carried out"), "{lost}");
}

#[tokio::test]
async fn lines_come_as_they_are_sent() {
    let (say, said) = mpsc::channel::<Bytes>(8);
    let said = Arc::new(Mutex::new(Some(said)));
    let stream = move || async move {
        let said = said.lock().await.take().expect("asked once");
        let stream = futures::stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) });
        Body::from_stream(stream.map(Ok::<_, std::convert::Infallible>))
    };
    let local = local(axum::Router::new().route("/events", get(stream)));
    let (status, mut lines) = local.endpoint.lines(&Call::new(Method::GET, "/events")).await.unwrap();
    assert_eq!(status, 200);
    say.send(Bytes::from_static(b"one\r\ntw")).await.unwrap();
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("one"), "before the rest was sent");
    say.send(Bytes::from_static(b"o\n\nrest")).await.unwrap();
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("two"));
    assert_eq!(lines.next().await.unwrap().as_deref(), Some(""));
    drop(say);
    assert_eq!(lines.next().await.unwrap().as_deref(), Some("rest"));
    assert_eq!(lines.next().await.unwrap(), None);
}

#[tokio::test]
async fn over_tls_the_router_learns_who_asks() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let ask = |credentials, expect| {
        let endpoint = Endpoint::Tls { address: served.address, expect, credentials };
        async move { endpoint.request("GET", "/who", None).await }
    };
    let member = Expect::Member(CLUSTER);
    let alice = ask(cluster.operator("alice"), member).await.unwrap();
    assert_eq!(alice.body, b"operator alice");
    let node = ask(cluster.node(3), Expect::Node(CLUSTER, NodeId(2))).await.unwrap();
    assert_eq!(node.body, b"node 3");
    let mallory = ask(cluster.operator("mallory"), member).await.unwrap();
    let said = String::from_utf8(mallory.body).unwrap();
    assert!(mallory.status == 403 && said.contains("operator mallory is not admitted"), "{said}");
    let wrong = ask(cluster.node(3), Expect::Node(CLUSTER, NodeId(4))).await.unwrap_err();
    assert!(wrong.to_string().contains("not node 4"), "{wrong}");
    let stranger = ask(Cluster::new().operator("alice"), member).await.unwrap_err();
    assert!(matches!(stranger, HttpError::Unreachable { .. }), "{stranger}");
}

#[tokio::test]
async fn over_tls_a_node_that_is_removed_loses_the_connection_that_it_has() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let connected = raw::connect(served.address, &[Service::Http.alpn()], Some(&cluster.node(1)), &TLS13).await;
    let mut stream = connected.unwrap();
    for (removed, status) in [(0, "200"), (1, "403")] {
        served.removed.store(removed, std::sync::atomic::Ordering::SeqCst);
        stream.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *format!("HTTP/1.1 {status}").as_bytes());
        let mut rest = [0; 4096];
        let _ = stream.read(&mut rest).await.unwrap();
    }
}

#[tokio::test]
async fn over_tls_whoever_is_admitted_no_more_hears_nothing_of_answers_under_way() {
    let cluster = Cluster::new();
    let (say, said) = mpsc::channel::<Bytes>(8);
    let (said, gate) = (Arc::new(Mutex::new(Some(said))), Arc::new(Semaphore::new(0)));
    let stream = move || async move {
        let said = said.lock().await.take().expect("asked once");
        let stream = futures::stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) });
        Body::from_stream(stream.map(Ok::<_, std::convert::Infallible>))
    };
    let opened = gate.clone();
    let wait = move || async move {
        let _passed = opened.acquire().await.unwrap();
        "waited"
    };
    let router = axum::Router::new().route("/events", get(stream)).route("/wait", get(wait.clone()).post(wait));
    let served = Served::serving(cluster.node(2), "127.0.0.1:0", Arc::new(NoJoin::default()), router);
    let endpoint = |id| {
        let credentials = cluster.node(id);
        Endpoint::Tls { address: served.address, expect: Expect::Member(CLUSTER), credentials }
    };
    let (gone, stays) = (endpoint(1), endpoint(3));
    let (status, mut lines) = gone.lines(&Call::new(Method::GET, "/events")).await.unwrap();
    say.send(Bytes::from_static(b"before\n")).await.unwrap();
    assert_eq!((status, lines.next().await.unwrap().as_deref()), (200, Some("before")));

    let asked = served.asked();
    let revoked = async {
        // Three connections, and a request on each, were let in.
        while served.asked() < asked + 6 {
            tokio::task::yield_now().await;
        }
        served.removed.store(1, std::sync::atomic::Ordering::SeqCst);
        gate.add_permits(3);
        say.send(Bytes::from_static(b"after\n")).await.unwrap();
        let ended = lines.next().await;
        assert!(ended.is_err(), "{ended:?}");
    };
    let (question, change, other, ()) = tokio::join!(
        gone.request("GET", "/wait", None),
        gone.request("POST", "/wait", None),
        stays.request("GET", "/wait", None),
        revoked
    );
    let (question, change, other) = (question.unwrap(), change.unwrap(), other.unwrap());
    let said = String::from_utf8(question.body).unwrap();
    assert!(question.status == 403 && said.contains("node 1 is not admitted"), "{said}");
    assert_eq!((change.status, change.body.as_slice()), (200, &b"waited"[..]), "it was carried out before");
    assert_eq!((other.status, other.body.as_slice()), (200, &b"waited"[..]));
}

#[tokio::test]
async fn a_socket_of_another_user_says_who_may_use_it() {
    use std::os::unix::fs::PermissionsExt;
    if nix::unistd::geteuid().is_root() {
        println!("skipped: root may open every socket");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(Path::new(&path), std::fs::Permissions::from_mode(0o000)).unwrap();
    let refused = Endpoint::Unix(path).request("GET", "/who", None).await.unwrap_err().to_string();
    assert!(refused.contains("group pkgctl"), "{refused}");
}
