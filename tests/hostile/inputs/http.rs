//! The API: any bytes on a connection, and any path, query and body behind a head that is well formed.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pkgctl::api::door::{Door, DoorError, TokenOffer};
use pkgctl::api::local::Local;
use pkgctl::api::routes::{LocalDoor, local_routes, routes};
use pkgctl::api::types::Failure;
use pkgctl::api::types::raft::{LeavePlan, LeaveRequest, Left, StandaloneBegun, StandalonePlan, StandaloneRequest};
use pkgctl::engine::check::consistent;
use pkgctl::engine::fence::call::{FenceAsk, FenceSaid};
use pkgctl::engine::kv::Range;
use pkgctl::engine::planner::Note;
use pkgctl::engine::{Command, LogIndex, NodeId, Reply, State, WallMillis, apply};
use pkgctl::net::http::{Caller, serve_stream};
use pkgctl::net::identity::Authority;
use pkgctl::package::{Millis, NodeName, PackageName};
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
        // It signs certificates, so it needs a key that is one.
        static AUTHORITY: LazyLock<Authority> =
            LazyLock::new(|| Authority::create(scene::CLUSTER, "test").expect("an authority can be made"));
        let mut state = State::clone(&scene::state());
        if let Some(cluster) = &mut state.cluster {
            AUTHORITY.certificate_pem().clone_into(&mut cluster.ca_certificate);
            cluster.ca_key = AUTHORITY.key_pem();
        }
        Self(Arc::new(Mutex::new(state)))
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
        let founder = pkgctl::engine::FOUNDER;
        let voters = [founder].into();
        RaftStatus { voters, majority_heard: Some(Millis(0)), ..RaftStatus::empty(founder, Role::Leader) }
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
        Err(alone())
    }

    async fn answers(&self, _address: SocketAddr) -> bool {
        false
    }

    async fn stand(&self) -> Result<(), DoorError> {
        Ok(())
    }

    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }

    fn new_token(&self, _: u64) -> Result<TokenOffer, DoorError> {
        Ok(TokenOffer { token: "t".to_owned(), digest: "1".repeat(64), expires: WallMillis(9), valid_s: 1 })
    }

    fn log_file(&self, package: &PackageName) -> PathBuf {
        PathBuf::from("/nonexistent").join(package.as_str())
    }
}

impl LocalDoor for Lone {
    async fn standalone_plan(&self) -> Result<StandalonePlan, DoorError> {
        Err(alone())
    }

    async fn go_alone(&self, _: StandaloneRequest, _: String) -> Result<StandaloneBegun, DoorError> {
        Err(alone())
    }

    fn whole_log(&self) -> Result<Arc<State>, DoorError> {
        Ok(Arc::new(self.read(State::clone)))
    }

    async fn leave_plan(&self) -> Result<LeavePlan, DoorError> {
        Err(alone())
    }

    async fn leave(&self, _: LeaveRequest, _: String) -> Result<Left, DoorError> {
        Err(alone())
    }
}

fn alone() -> DoorError {
    DoorError::Refused("it is alone".to_owned())
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

/// What root on the node is answered to any bytes.
fn answered(bytes: &[u8]) -> Vec<u8> {
    let (mut said, door) = (Vec::new(), Lone::new());
    let stream = tokio::io::join(Sent { bytes, looks: LOOKS_MAX }, &mut said);
    let all = routes(door.clone()).merge(local_routes(door.clone()));
    in_time(serve_stream(all, stream, Caller::Local { uid: 0 }));
    door.read(consistent).expect("the state stays consistent");
    said
}

/// Any bytes on a connection: whatever is answered is HTTP, and never that something of ours failed.
pub fn run(bytes: &[u8]) -> bool {
    let said = answered(bytes);
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

/// A route of the API, and a path that it takes.
struct Route {
    method: String,
    /// As the description names it.
    template: String,
    path: String,
}

/// Every route that the API's description has, which is held to the routes that are served: one that is added is asked here
/// without anybody thinking of it.
static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let described: serde_json::Value =
        serde_json::from_str(include_str!("../../../src/api/openapi.json")).expect("the description is JSON");
    let paths = described["paths"].as_object().expect("it has paths");
    let routes = paths.iter().flat_map(|(template, methods)| {
        let methods = methods.as_object().expect("a path has methods").keys();
        methods.map(|method| Route {
            method: method.to_uppercase(),
            template: template.clone(),
            path: filled(template),
        })
    });
    routes.collect()
});

/// A path that a template stands for.
fn filled(template: &str) -> String {
    let name = match template.split('/').nth(2) {
        Some("packages") => "p1",
        Some("fences") => "n2",
        Some("cluster") => "alice",
        _ => "{name}",
    };
    let key = if template.starts_with("/v1/save/") { "a/" } else { "a%2Fb" };
    let path = template.replace("{name}", name).replace("{key}", key);
    assert!(!path.contains('{'), "nobody has said what stands for a name in {template}");
    path
}

/// A route, the length of a query, the query, a body.
pub fn request(bytes: &[u8]) -> bool {
    let (route, rest) = choice(bytes);
    let (length, rest) = choice(rest);
    let (query, body) = rest.split_at(usize::from(length).min(rest.len()));
    let route = &ROUTES[usize::from(route) % ROUTES.len()];
    run(&whole(&route.method, &route.path, query, body))
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

/// Query and body of a well-formed request; nothing of both where a route takes none.
fn example(method: &str, template: &str) -> (&'static str, String) {
    let text = |body: &str| body.to_owned();
    let node = || text(r#"{"node":"n2"}"#);
    match (method, template) {
        ("GET", "/v1/changes") => ("after=3&within_ms=5", text("")),
        ("PUT", "/v1/packages/{name}") => ("", serde_json::json!({ "definition": scene::package() }).to_string()),
        ("DELETE", "/v1/packages/{name}") => ("revision=7", text("")),
        ("POST", "/v1/packages/{name}/run" | "/v1/packages/{name}/clear") => ("", node()),
        ("POST", "/v1/packages/{name}/stop") => ("", text(r#"{"scope":"everywhere"}"#)),
        ("POST", "/v1/packages/{name}/move" | "/v1/raft/step-down") => ("", text(r#"{"to":"n2"}"#)),
        ("GET", "/v1/packages/{name}/log") => ("offset=1&tail=2&within_ms=0", text("")),
        ("POST", "/v1/cluster/remove" | "/v1/cluster/keep") => ("", node()),
        ("PUT", "/v1/cluster/clients/{name}") => ("", serde_json::json!({ "request": REQUEST }).to_string()),
        ("POST", "/v1/raft/force-standalone") => ("", text(r#"{"cluster":"test","fence":true}"#)),
        ("POST", "/v1/cluster/leave") => ("", text(r#"{"cluster":"test","exported":7}"#)),
        ("PUT", "/v1/fences/{name}") => ("", text(FENCE)),
        ("POST", "/v1/fences/{name}/order") => ("", text(r#"{"action":"off","force":true}"#)),
        ("GET", "/v1/kv/") => ("level=stale&limit=3&from=a&to=b&keys&depth=1", text("")),
        ("GET", "/v1/kv/{key}") => ("json&level=consistent", text("")),
        ("PUT", "/v1/kv/{key}") => ("if_revision=0&if_value=3&op=%3C&package=p1&token=7", text("5")),
        ("POST", "/v1/kv") => ("", text(TXN)),
        ("POST", "/key") => ("", text(r#"{"a":"1"}"#)),
        ("POST", "/db/{key}") => ("", text("5")),
        _ => ("", text("")),
    }
}

/// For a certificate, by a key that nobody has kept.
const REQUEST: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
MIHKMHICAQAwEDEOMAwGA1UEAwwFYWxpY2UwWTATBgcqhkjOPQIBBggqhkjOPQMB\n\
BwNCAAT9Z9AzoulAuxdhc2da0UUd8KJwf3JosOnV7J4NYcnzM0CjqOtpEKOya3nP\n\
KWOob+LqcCbvKvOZz0btOZwuISVcoAAwCgYIKoZIzj0EAwIDSAAwRQIgJVu9E4U3\n\
iKrfnPeYHzA3YM8gF9nbX6YrWrh2sFGpJQECIQCz3H4cOZkNOB8P5nMHFwn3HI0W\n\
Ufy5Qi4BqtvqgDhJlQ==\n\
-----END CERTIFICATE REQUEST-----\n";
const FENCE: &str = r#"{"unchecked":true,"device":{"agent":"/usr/sbin/fence_x","options":{"ip":"10.9.0.1"},"action":"off","timeout":60000,"delay":0}}"#;
const TXN: &str = r#"{"when":[{"key":"a","op":"<","value":"3"}],"then":[{"put":"a/b","base64":"/w=="}],"else":[{"delete":{"from":"a"}}]}"#;

/// Route, query and body of well-formed requests.
fn requests() -> Vec<(u8, &'static str, String)> {
    let all = (0u8..).zip(ROUTES.iter());
    all.map(|(at, route)| {
        let (query, body) = example(&route.method, &route.template);
        (at, query, body)
    })
    .collect()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let all = requests().into_iter().map(|(route, query, body)| {
        let route = &ROUTES[usize::from(route)];
        whole(&route.method, &route.path, query.as_bytes(), body.as_bytes())
    });
    let chunked = "PUT /v1/packages/p1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let mut another = serde_json::json!({ "definition": scene::package() });
    another["definition"]["name"] = "p2".into();
    let another = whole("PUT", "/v1/packages/p2", b"", another.to_string().as_bytes());
    all.chain([chunked.into(), another]).collect()
}

pub fn request_seeds() -> Vec<Vec<u8>> {
    let seed = |(route, query, body): (u8, &str, String)| {
        let length = u8::try_from(query.len()).expect("seeds are short");
        chosen(route, &chosen(length, &[query.as_bytes(), body.as_bytes()].concat()))
    };
    requests().into_iter().map(seed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_description_is_asked_and_is_served() {
        let (mut taken, mut wrong) = (Vec::new(), Vec::new());
        for (at, query, body) in requests() {
            let route = &ROUTES[usize::from(at)];
            let shown = format!("{} {}", route.method, route.path);
            let said = answered(&whole(&route.method, &route.path, query.as_bytes(), body.as_bytes()));
            let said = String::from_utf8_lossy(&said).into_owned();
            // Nothing is said yet where something is waited for. By the refusal's own code: the description, which is a route too, names every one.
            let codes = ["no_such_route", "no_such_method", "bad_request"];
            if codes.iter().any(|code| said.contains(&format!("{{\"code\":\"{code}\""))) {
                wrong.push(format!("{shown}: {said}"));
            }
            if said.starts_with("HTTP/1.1 2") {
                taken.push(shown);
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(ROUTES.len() > 50 && 2 * taken.len() > ROUTES.len(), "of {} are taken: {taken:?}", ROUTES.len());
        assert!(taken.iter().any(|route| route == "POST /v1/cluster/keep"), "{taken:?}");
    }
}
