//! The API: any bytes on a connection, and any path, query and body behind a head that is well formed.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pkgctl::api::door::{Door, DoorError, TokenOffer};
use pkgctl::api::local::Local;
use pkgctl::api::routes::routes;
use pkgctl::api::types::Failure;
use pkgctl::engine::check::consistent;
use pkgctl::engine::fence::call::{FenceAsk, FenceSaid};
use pkgctl::engine::kv::Range;
use pkgctl::engine::planner::Note;
use pkgctl::engine::{Command, LogIndex, NodeId, Reply, State, WallMillis, apply};
use pkgctl::net::http::{Caller, serve_stream};
use pkgctl::package::{NodeName, PackageName};
use pkgctl::raft::status::Role;
use pkgctl::raft::watched::Watched;
use pkgctl::raft::{RaftStatus, Watch};

use tokio::io::{AsyncRead, ReadBuf};

use super::{choice, chosen, scene};

/// An agent that applies at once what it is told.
#[derive(Clone)]
struct Lone(Arc<Mutex<State>>);

impl Lone {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State::clone(&scene::state()))))
    }
}

impl Door for Lone {
    async fn submit(&self, command: Command, by: String) -> Result<(LogIndex, Reply), DoorError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = LogIndex(state.applied.0 + 1);
        let entry = pkgctl::engine::command::Entry { by, ..scene::entry(command) };
        Ok((index, apply(&mut state, index, &entry).reply))
    }

    async fn fence_ask(&self, _: NodeId, _: FenceAsk) -> FenceSaid {
        FenceSaid::Absent
    }

    async fn linearize(&self) -> Result<LogIndex, DoorError> {
        Ok(self.read(|state| state.applied))
    }

    async fn catch_up(&self) -> Result<LogIndex, DoorError> {
        self.linearize().await
    }

    fn watch(&self, range: Range, after: LogIndex) -> Watch {
        Watched::new(self.read(|state| state.applied)).watch(range, after)
    }

    async fn applied_after(&self, _: LogIndex, _: Duration) -> LogIndex {
        self.read(|state| state.applied)
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn raft(&self) -> RaftStatus {
        RaftStatus {
            node: pkgctl::engine::FOUNDER,
            role: Role::Leader,
            term: 1,
            leader: None,
            voters: [pkgctl::engine::FOUNDER].into(),
            learners: [].into(),
            addresses: [].into(),
            changing: false,
            last_log: None,
            committed: None,
            applied: None,
            snapshot: None,
            peers: [].into(),
            fatal: None,
        }
    }

    fn local(&self) -> Local {
        Local { node: pkgctl::engine::FOUNDER, ..Local::default() }
    }

    fn node_name(&self) -> NodeName {
        NodeName::new("n1").expect("it is a name")
    }

    async fn change_waits(&self) -> Option<String> {
        None
    }

    async fn leaders_raft(&self) -> Option<RaftStatus> {
        Some(self.raft())
    }

    async fn step_down(&self, _to: Option<NodeId>) -> Result<(), DoorError> {
        Err(DoorError::Refused("it is alone".to_owned()))
    }

    async fn stand(&self) -> Result<(), DoorError> {
        Ok(())
    }

    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }

    fn new_token(&self) -> Result<TokenOffer, DoorError> {
        Ok(TokenOffer { token: "t".to_owned(), digest: "1".repeat(64), expires: WallMillis(9), valid_s: 1 })
    }

    fn log_file(&self, package: &PackageName) -> PathBuf {
        PathBuf::from("/nonexistent").join(package.as_str())
    }
}

/// Runs one talk; a request that asks to wait is left waiting.
pub fn in_time<T>(talk: impl Future<Output = T>) -> Option<T> {
    const TALK_MAX: Duration = Duration::from_millis(50);
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without I/O can be made");
    }
    RUNTIME.with(|runtime| runtime.block_on(async { tokio::time::timeout(TALK_MAX, talk).await.ok() }))
}

/// How often somebody looks for more than was sent before it is said that there is no more.
const LOOKS_MAX: u8 = 16;

/// What a client sends. It hangs up only once it was looked at often enough for an answer: a request whose client has
/// gone is not answered.
struct Sent<'a> {
    bytes: &'a [u8],
    looks: u8,
}

impl AsyncRead for Sent<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() && self.looks > 0 {
            self.looks -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (now, later) = self.bytes.split_at(into.remaining().min(self.bytes.len()));
        into.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

/// Any bytes on a connection: whatever is answered is HTTP, and never that something of ours failed.
pub fn run(bytes: &[u8]) -> bool {
    let (mut said, door) = (Vec::new(), Lone::new());
    let stream = tokio::io::join(Sent { bytes, looks: LOOKS_MAX }, &mut said);
    in_time(serve_stream(routes(door.clone()), stream, Caller::Local { uid: 0 }));
    door.read(consistent).expect("the state stays consistent");
    if said.is_empty() {
        return false;
    }
    let status = said.strip_prefix(b"HTTP/1.1 ").or(said.strip_prefix(b"HTTP/1.0 "));
    let status = status.unwrap_or_else(|| panic!("not HTTP: {}", String::from_utf8_lossy(&said)));
    assert!(matches!(status.first(), Some(b'1'..=b'4')), "{}", String::from_utf8_lossy(&said));
    if status.first() == Some(&b'4') {
        refused_in_our_form(&said);
    }
    status.first() == Some(&b'2')
}

/// A refusal says its code and its message as JSON; only what is no HTTP gets a bare status.
fn refused_in_our_form(said: &[u8]) {
    let text = String::from_utf8_lossy(said);
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let length = length.unwrap_or_else(|| panic!("a refusal is no stream: {text}"));
    if length == 0 {
        assert!(["400", "414", "431"].iter().any(|status| head[9..].starts_with(status)), "{text}");
        return;
    }
    assert!(head.contains("content-type: application/json"), "{text}");
    // None follows the head where only that was asked for.
    if let Some(body) = body.get(..length) {
        let failure: Failure = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(!failure.code.is_empty() && !failure.message.is_empty(), "{text}");
    }
}

const ROUTES: [(&str, &str); 19] = [
    ("GET", "/v1/status"),
    ("GET", "/v1/changes"),
    ("GET", "/v1/packages/p1"),
    ("PUT", "/v1/packages/p1"),
    ("PUT", "/v1/packages/p2"),
    ("DELETE", "/v1/packages/p1"),
    ("GET", "/v1/packages/p1/owner"),
    ("POST", "/v1/packages/p1/run"),
    ("POST", "/v1/packages/p1/stop"),
    ("POST", "/v1/packages/p1/move"),
    ("POST", "/v1/packages/p1/clear"),
    ("GET", "/v1/packages/p1/log"),
    ("POST", "/v1/cluster/remove"),
    ("POST", "/v1/node/leave"),
    ("GET", "/v1/kv/"),
    ("GET", "/v1/kv/a%2Fb"),
    ("PUT", "/v1/kv/a%2Fb"),
    ("DELETE", "/v1/kv/a/"),
    ("POST", "/v1/kv"),
];

/// A route, the length of a query, the query, a body.
pub fn request(bytes: &[u8]) -> bool {
    let (route, rest) = choice(bytes);
    let (length, rest) = choice(rest);
    let (query, body) = rest.split_at(usize::from(length).min(rest.len()));
    let (method, path) = ROUTES[usize::from(route) % ROUTES.len()];
    run(&whole(method, path, query, body))
}

fn whole(method: &str, path: &str, query: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {path}").into_bytes();
    if !query.is_empty() {
        out.push(b'?');
        out.extend(query);
    }
    let length = body.len();
    out.extend(format!(" HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n").as_bytes());
    out.extend(body);
    out
}

/// Route, query and body of well-formed requests.
fn requests() -> Vec<(u8, &'static str, String)> {
    let mut definition = serde_json::json!({ "definition": scene::package() });
    let text = definition.to_string();
    definition["definition"]["name"] = "p2".into();
    let node = r#"{"node":"n2"}"#.to_owned();
    vec![
        (0, "", String::new()),
        (1, "after=3&within_ms=5", String::new()),
        (2, "", String::new()),
        (3, "", text),
        (4, "", definition.to_string()),
        (5, "", String::new()),
        (6, "", String::new()),
        (7, "", node.clone()),
        (8, "", r#"{"scope":"everywhere"}"#.to_owned()),
        (9, "", r#"{"to":"n2"}"#.to_owned()),
        (10, "", node.clone()),
        (11, "offset=1&tail=2&within_ms=0", String::new()),
        (12, "", node),
        (13, "", String::new()),
        (14, "level=stale&limit=3&from=a&to=b&keys&depth=1", String::new()),
        (15, "json&level=consistent", String::new()),
        (16, "if_revision=0&if_value=3&op=%3C&package=p1&token=7", "5".to_owned()),
        (17, "", String::new()),
        (18, "", r#"{"when":[{"key":"a","op":"<","value":"3"}],"then":[{"put":"a/b","base64":"/w=="}],"else":[{"delete":{"from":"a"}}]}"#.to_owned()),
    ]
}

pub fn seeds() -> Vec<Vec<u8>> {
    let all = requests().into_iter().map(|(route, query, body)| {
        let (method, path) = ROUTES[usize::from(route)];
        whole(method, path, query.as_bytes(), body.as_bytes())
    });
    let chunked = "PUT /v1/packages/p1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    all.chain([chunked.into()]).collect()
}

pub fn request_seeds() -> Vec<Vec<u8>> {
    let seed = |(route, query, body): (u8, &str, String)| {
        let length = u8::try_from(query.len()).expect("seeds are short");
        chosen(route, &chosen(length, &[query.as_bytes(), body.as_bytes()].concat()))
    };
    requests().into_iter().map(seed).collect()
}
