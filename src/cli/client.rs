//! The way to an agent, and its answers as values or as what a verb says when it fails.
//!
//! Agents are tried in turn, beginning with the one that answered last. A request that can be repeated without harm (a
//! question, or a change with a name of its own) is repeated when its answer was lost; any other is not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use super::args::Args;
use super::exit::Failed;
use super::print::Out;
use super::reach::{Reach, Way};
use crate::api::types::Failure;
use crate::config::Places;
use crate::net::http::{Answer, Call, Endpoint, HttpError, Lines, Method};
use crate::net::tls::Expect;

/// The header by which a change has a name of its own.
pub const REQUEST_NAME: &str = "idempotency-key";
/// How long an answer to a question may take; no question asks to wait for more than a few seconds.
const GET_WITHIN: Duration = Duration::from_secs(20);
/// How long one agent of several may take with a question; an agent itself looks for a leader for three seconds.
const GET_TRY_WITHIN: Duration = Duration::from_secs(6);
/// How long an agent may take with a change that can be repeated; it looks for a leader for ten seconds.
pub const CHANGE_TRY_WITHIN: Duration = Duration::from_secs(12);
/// How long connecting to one agent of several may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long a change whose answer was lost is repeated.
const REPEAT_WITHIN: Duration = Duration::from_secs(30);
/// How long nobody may have an answer about a change that was taken: an election, the restart of an agent.
const OUTLAST_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two rounds of the same request.
const PAUSE: Duration = Duration::from_millis(200);
/// After this a word is said.
const PATIENCE: Duration = Duration::from_secs(3);

/// Agents to talk to.
#[derive(Clone, Debug)]
pub struct Client {
    reach: Reach,
    /// Which of them answered last.
    current: Arc<AtomicUsize>,
    /// Whether it asks about a change that was taken.
    after_change: bool,
    out: Out,
    /// Where this installation's files lie.
    pub places: Places,
}

impl Client {
    /// Finds the agents (`cli::reach`).
    pub fn find(args: &Args) -> Result<Self, Failed> {
        let places = Places::under(args.root.as_deref());
        let reach = Reach::find(args, &places)?;
        Ok(Self { reach, current: Arc::default(), after_change: false, out: Out::new(args.json), places })
    }

    /// Refuses a verb that is about one agent where any of several would get it.
    pub fn named_one(&self, verb: &str) -> Result<(), Failed> {
        if self.reach.one_named {
            return Ok(());
        }
        Err(Failed::usage(format!(
            "`pkgctl {verb}` is about one node, and client.toml names a cluster: run it on that node, or name the node \
             with --endpoint; nothing was sent"
        )))
    }

    /// Refuses a verb that is about this machine's own files where it would go elsewhere.
    pub fn on_this_node(&self, verb: &str) -> Result<(), Failed> {
        if self.is_on_this_node() {
            return Ok(());
        }
        Err(Failed::usage(format!("`pkgctl {verb}` is for root on the node itself: run it there; nothing was sent")))
    }

    /// Whether this machine's agent is the one asked, and no other.
    pub fn is_on_this_node(&self) -> bool {
        self.reach.ways.iter().all(|way| matches!(way, Way::Socket(_)))
    }

    /// The same client for the one agent that answered last.
    pub fn settled(&self) -> Self {
        let way = self.reach.ways.get(self.current.load(Ordering::Relaxed)).cloned();
        let ways = way.map_or_else(|| self.reach.ways.clone(), |way| vec![way]);
        Self { reach: Reach { ways, one_named: true }, current: Arc::default(), ..self.clone() }
    }

    /// The same client for questions about a change that was taken. That nobody answers, or that there is no leader, says
    /// nothing about it, so it is asked on; who gives up then says that it is still under way.
    pub fn after_change(&self) -> Self {
        Self { after_change: true, ..self.clone() }
    }

    /// GET.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        value(self.send(question(path)).await?)
    }

    /// GET of something that may not exist.
    pub async fn get_if_any<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failed> {
        let answer = self.send(question(path)).await?;
        if answer.status == 404 { Ok(None) } else { value(answer).map(Some) }
    }

    /// GET of bytes, with the answer's headers.
    pub async fn get_raw(&self, path: &str) -> Result<Answer, Failed> {
        let answer = self.send(question(path)).await?;
        if answer.status == 200 { Ok(answer) } else { Err(refused(&answer)) }
    }

    /// POST or PUT of JSON.
    pub async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &B,
    ) -> Result<T, Failed> {
        let body = serde_json::to_vec(body).map_err(|e| Failed::usage(e.to_string()))?;
        let method = method.parse::<Method>().map_err(|e| Failed::usage(e.to_string()))?;
        value(self.send(Call { body: Some(body), ..Call::new(method, path) }).await?)
    }

    /// An answer that goes on, as lines, with its status.
    pub async fn lines(&self, call: &Call) -> Result<(u16, Lines), Failed> {
        let mut missed = Vec::new();
        for at in self.order() {
            match self.open(at, call).await {
                Ok(opened) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok(opened);
                }
                Err(error) => missed.push(error.to_string()),
            }
        }
        Err(Failed::unreachable(missed.join("; ")))
    }

    /// Sends a request and answers what came of it, a refusal too.
    pub async fn send(&self, call: Call) -> Result<Answer, Failed> {
        let asking = self.rounds(&call);
        tokio::pin!(asking);
        match timeout(PATIENCE, &mut asking).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                self.out.progress("(the agent has not answered yet)");
                asking.await
            }
        }
    }

    async fn rounds(&self, call: &Call) -> Result<Answer, Failed> {
        let repeats = repeats(call);
        let mut tried = Tried::default();
        let again = async {
            loop {
                if let Some(answer) = self.round(call, repeats, &mut tried).await {
                    return Some(answer);
                }
                if !(repeats && (tried.uncertain || (self.after_change && !tried.is_forbidden()))) {
                    return None;
                }
                sleep(PAUSE).await;
            }
        };
        let all = match (call.method == Method::GET, repeats) {
            (true, _) if self.after_change => OUTLAST_WITHIN,
            (true, _) => GET_WITHIN,
            (false, true) => REPEAT_WITHIN,
            (false, false) => call.within * 2,
        };
        match timeout(all, again).await {
            Ok(Some(answer)) => Ok(answer),
            Err(_elapsed) if self.after_change => Err(tried.outlasted()),
            Ok(None) | Err(_) => tried.failed(call, self.look().as_deref()),
        }
    }

    /// How to see what became of this machine's agent, if that is the one asked.
    fn look(&self) -> Option<String> {
        self.is_on_this_node().then(|| look(&self.places))
    }

    /// Asks each agent once, until one has a word that stands.
    async fn round(&self, call: &Call, repeats: bool, tried: &mut Tried) -> Option<Answer> {
        tried.missed.clear();
        for at in self.order() {
            let uncertain = std::mem::replace(&mut tried.uncertain, true);
            let outcome = self.ask(at, call, repeats).await;
            tried.uncertain = uncertain;
            match outcome {
                Ok(answer) if elsewhere(answer.status, repeats) => {
                    tried.uncertain |= answer.status == 504;
                    tried.refusal = Some(answer);
                }
                Ok(answer) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Some(answer);
                }
                Err(HttpError::Unreachable { why }) => tried.missed.push(why),
                Err(HttpError::Lost { why }) => {
                    tried.uncertain = true;
                    tried.missed.push(why);
                    if !repeats {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// The agents, beginning with the one that answered last.
    fn order(&self) -> impl Iterator<Item = usize> {
        let (count, first) = (self.reach.ways.len(), self.current.load(Ordering::Relaxed));
        (0..count).map(move |step| (first + step) % count)
    }

    async fn ask(&self, at: usize, call: &Call, repeats: bool) -> Result<Answer, HttpError> {
        let several = self.reach.ways.len() > 1;
        let within = match (repeats, call.method == Method::GET) {
            (true, true) if several => GET_TRY_WITHIN,
            (true, false) => CHANGE_TRY_WITHIN,
            (true, true) | (false, _) => call.within,
        };
        let call = Call { connect_within: self.connect_within(), within, ..call.clone() };
        self.reached(at, call.connect_within, async |endpoint: Endpoint| endpoint.call(&call).await).await
    }

    async fn open(&self, at: usize, call: &Call) -> Result<(u16, Lines), HttpError> {
        let call = Call { connect_within: self.connect_within(), within: GET_WITHIN, ..call.clone() };
        self.reached(at, call.connect_within, async |endpoint: Endpoint| endpoint.lines(&call).await).await
    }

    /// Tries the addresses of one agent in turn, until one of them is reached.
    async fn reached<T>(
        &self,
        at: usize,
        within: Duration,
        ask: impl AsyncFn(Endpoint) -> Result<T, HttpError>,
    ) -> Result<T, HttpError> {
        let way = &self.reach.ways[at];
        let mut missed = nobody(way);
        for endpoint in endpoints(way, within).await? {
            match ask(endpoint).await {
                Err(unreachable @ HttpError::Unreachable { .. }) => missed = unreachable,
                other => return other,
            }
        }
        Err(missed)
    }

    fn connect_within(&self) -> Duration {
        if self.reach.ways.len() > 1 { CONNECT_WITHIN } else { crate::net::http::CONNECT_TIME_MAX }
    }
}

/// A question, answered in seconds or not at all.
fn question(path: &str) -> Call {
    Call { within: GET_WITHIN, ..Call::new(Method::GET, path) }
}

/// Whether carrying it out twice is the same as once.
fn repeats(call: &Call) -> bool {
    call.method == Method::GET || call.headers.iter().any(|(name, _)| *name == REQUEST_NAME)
}

/// Whether another agent may have a better word: this one cannot reach a leader, or does not know the client yet.
fn elsewhere(status: u16, repeats: bool) -> bool {
    matches!(status, 403 | 503) || (status == 504 && repeats)
}

/// systemd knows what lies below `/`; a node in a directory is served by a process of its own.
fn look(places: &Places) -> String {
    if places.root() == Path::new("/") {
        return "`systemctl status pkgctl-agent` shows the agent".to_owned();
    }
    let root = places.root().display();
    format!("`pkgctl --root {root} node start` starts that directory's node, or says that it runs")
}

/// What a request has met so far.
#[derive(Default)]
struct Tried {
    /// Who could not be asked, or did not answer.
    missed: Vec<String>,
    /// The newest answer that was no last word.
    refusal: Option<Answer>,
    /// Whether it may have been carried out; so while an answer is waited for.
    uncertain: bool,
}

impl Tried {
    /// Whether an agent does not know the client, which asking on does not change.
    fn is_forbidden(&self) -> bool {
        self.refusal.as_ref().is_some_and(|answer| answer.status == 403)
    }

    fn why(&self) -> String {
        if self.missed.is_empty() { "no agent answered in time".to_owned() } else { self.missed.join("; ") }
    }

    /// Nobody had an answer about a change that was taken.
    fn outlasted(self) -> Failed {
        let why = self.refusal.as_ref().map_or_else(|| self.why(), |answer| refused(answer).message);
        Failed::waiting(format!(
            "it was taken, and nobody has said for {OUTLAST_WITHIN:?} what came of it ({why}); it goes on without this \
             command: `pkgctl status` shows how"
        ))
    }

    /// `look` says how to see what the agent is about, where it is this machine's.
    fn failed(self, call: &Call, look: Option<&str>) -> Result<Answer, Failed> {
        let missed = self.why();
        match (self.uncertain, call.method == Method::GET, self.refusal) {
            (false, _, Some(refusal)) | (true, true, Some(refusal)) => Ok(refusal),
            (false, _, None) => Err(Failed::unreachable(match look {
                Some(look) => format!("{missed}. {look}"),
                None => missed,
            })),
            (true, true, None) => Err(Failed::unreachable(format!(
                "{missed}; nothing was changed. Is the agent stuck? {}",
                look.unwrap_or_default()
            ))),
            (true, false, _) => {
                let lost = HttpError::Lost { why: missed };
                Err(Failed::unknown(lost.to_string()))
            }
        }
    }
}

fn nobody(way: &Way) -> HttpError {
    let at = match way {
        Way::Socket(path) => path.display().to_string(),
        Way::Member { at, .. } => at.clone(),
    };
    HttpError::Unreachable { why: format!("{at} has no address") }
}

/// A way's addresses; a host name may have several.
async fn endpoints(way: &Way, within: Duration) -> Result<Vec<Endpoint>, HttpError> {
    let (at, credentials) = match way {
        Way::Socket(path) => return Ok(vec![Endpoint::Unix(path.clone())]),
        Way::Member { at, credentials } => (at, credentials),
    };
    let bad = |why: String| HttpError::Unreachable { why: format!("cannot find the address of {at}: {why}") };
    let found = timeout(within, tokio::net::lookup_host(at)).await;
    let found = found.map_err(|_| bad(format!("no answer within {within:?}")))?.map_err(|e| bad(e.to_string()))?;
    let expect = Expect::Member(credentials.bearer().cluster);
    Ok(found.map(|address| Endpoint::Tls { address, expect, credentials: credentials.clone() }).collect())
}

/// An answer as a value, or as what a verb says.
pub fn value<T: DeserializeOwned>(answer: Answer) -> Result<T, Failed> {
    if answer.status != 200 {
        return Err(refused(&answer));
    }
    let bad = |e| Failed::outcome(format!("the agent's answer cannot be read ({e}); is it another version of pkgctl?"));
    serde_json::from_slice(&answer.body).map_err(bad)
}

/// An answer that is no success, as what a verb says.
pub fn refused(answer: &Answer) -> Failed {
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    let (code, message) = match serde_json::from_slice::<Failure>(&answer.body) {
        Ok(failure) => (Some(failure.code), failure.message),
        Err(_) => (None, text()),
    };
    let failed = match answer.status {
        400 | 422 => Failed::usage(message),
        503 => Failed::unreachable(message),
        504 => Failed::unknown(message),
        _ => Failed::rejected(message),
    };
    failed.with_code(code)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// An agent that reads each request and answers what it was told to, or breaks off.
    fn agent(path: &Path, answers: Vec<Option<&'static str>>, heard: &Arc<Mutex<Vec<String>>>) {
        let (listener, heard) = (UnixListener::bind(path).unwrap(), heard.clone());
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap();
                heard.lock().unwrap().push(String::from_utf8_lossy(&head[..length]).into_owned());
                if let Some(answer) = answer {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
    }

    fn client(paths: &[&Path]) -> Client {
        let ways = paths.iter().map(|path| Way::Socket(path.to_path_buf())).collect();
        let (reach, places) = (Reach { ways, one_named: false }, Places::under(None));
        Client { reach, current: Arc::default(), after_change: false, out: Out::new(true), places }
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    const NO_LEADER: &str = "HTTP/1.1 503 x\r\ncontent-length: 35\r\n\r\n{\"code\":\"unavailable\",\"message\":\"\"}";

    fn named() -> Call {
        let headers = vec![(REQUEST_NAME, "7".to_owned())];
        Call { headers, body: Some(b"x".to_vec()), ..Call::new(Method::PUT, "/v1/kv/a") }
    }

    #[test]
    fn systemd_is_named_only_where_it_runs_the_agent() {
        assert!(look(&Places::under(None)).contains("systemctl status pkgctl-agent"));
        let own = look(&Places::under(Some(Path::new("/srv/n1"))));
        assert!(own.contains("pkgctl --root /srv/n1 node start") && !own.contains("systemctl"), "{own}");
    }

    #[tokio::test]
    async fn a_named_change_whose_answer_was_lost_is_repeated_elsewhere_under_its_name() {
        let (dir, heard) = (tempfile::tempdir().unwrap(), Arc::default());
        let (one, two, none) = (dir.path().join("1"), dir.path().join("2"), dir.path().join("none"));
        agent(&one, vec![None], &heard);
        agent(&two, vec![Some(OK)], &heard);
        let answer = client(&[&none, &one, &two]).send(named()).await.unwrap();
        assert_eq!(answer.status, 200);
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 2);
        assert!(heard.iter().all(|head| head.contains("idempotency-key: 7")), "{heard:?}");
    }

    #[tokio::test]
    async fn a_named_change_is_repeated_at_the_only_agent_when_that_is_back() {
        let (dir, heard) = (tempfile::tempdir().unwrap(), Arc::default());
        let one = dir.path().join("1");
        agent(&one, vec![None, None, Some(OK)], &heard);
        assert_eq!(client(&[&one]).send(named()).await.unwrap().status, 200);
        assert_eq!(heard.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_change_without_a_name_is_never_repeated_once_it_may_have_been_taken() {
        let (dir, heard) = (tempfile::tempdir().unwrap(), Arc::default());
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        agent(&one, vec![None], &heard);
        agent(&two, vec![Some(OK)], &heard);
        let failed = client(&[&one, &two]).send(Call::new(Method::POST, "/x")).await.unwrap_err();
        assert_eq!((failed.number(), heard.lock().unwrap().len()), (6, 1), "{}", failed.message);
    }

    #[tokio::test]
    async fn who_has_no_leader_is_passed_over_and_the_one_that_answered_is_asked_first_then() {
        let (dir, heard) = (tempfile::tempdir().unwrap(), Arc::default());
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        agent(&one, vec![Some(NO_LEADER)], &heard);
        agent(&two, vec![Some(OK), Some(OK)], &heard);
        let client = client(&[&one, &two]);
        for _ in 0..2 {
            assert_eq!(client.send(Call::new(Method::POST, "/x")).await.unwrap().status, 200);
        }
        assert_eq!(heard.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn what_became_of_a_change_is_asked_on_where_there_is_no_leader_and_where_nobody_answers() {
        let (dir, heard) = (tempfile::tempdir().unwrap(), Arc::default());
        let one = dir.path().join("1");
        agent(&one, vec![Some(NO_LEADER), None, Some(NO_LEADER), Some(OK)], &heard);
        let asked = client(&[&one]).after_change().get::<serde_json::Value>("/x").await;
        assert_eq!(asked.unwrap(), serde_json::json!({}));
        // Nobody listens while an agent is started again.
        let two = dir.path().join("2");
        let asking = client(&[&two]).after_change();
        let comes = async {
            sleep(PAUSE * 2).await;
            agent(&two, vec![Some(OK)], &heard);
        };
        tokio::join!(asking.get::<serde_json::Value>("/x"), comes).0.unwrap();
        assert_eq!(heard.lock().unwrap().len(), 5);
    }

    #[test]
    fn a_change_that_nobody_has_a_word_about_is_still_under_way() {
        let missed = vec!["nobody listens".to_owned()];
        let failed = Tried { missed, ..Tried::default() }.outlasted();
        assert_eq!(failed.number(), 5);
        assert!(failed.message.contains("it was taken") && failed.message.contains("nobody listens"), "{failed:?}");
    }

    #[tokio::test]
    async fn where_nobody_is_there_nothing_was_changed_and_it_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let failed = client(&[&dir.path().join("none")]).send(named()).await.unwrap_err();
        assert_eq!(failed.number(), 3, "{}", failed.message);
    }
}
