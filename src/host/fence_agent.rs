//! Runs a fence agent: options on its standard input, bounded in time and in what is kept of its output.
//!
//! It gets a process group and an environment of its own. When it has ended, or its time is over, whatever is left of the
//! group is killed, and nothing of its pipes is waited for.

use std::io::{self, ErrorKind};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::engine::fence::call::FenceSaid;
use crate::engine::fence::metadata::METADATA_MAX_BYTES;
use crate::engine::fence::secret::{secrets_of, strike};

/// What is kept of what an agent says about what it did: the end, where the error stands.
const TAIL_MAX_BYTES: usize = 400;
/// How long output that its agent has left behind in the pipes may take to be read.
const DRAIN: Duration = Duration::from_millis(200);
/// Read at one time.
const READ_BYTES: usize = 16 << 10;
/// Where agents find what they call.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Which part of the output is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Standard output from its beginning, as much of it as metadata may have.
    Beginning,
    /// The last lines of both.
    End,
}

/// Runs an agent to its end, or until its time is over.
pub async fn run(agent: &str, input: &str, within: Duration, keep: Keep) -> FenceSaid {
    let mut child = match start(agent) {
        Ok(child) => child,
        Err(why) if why.kind() == ErrorKind::NotFound => return FenceSaid::Absent,
        Err(why) => return FenceSaid::Failed { why: format!("{agent} cannot be run: {why}") },
    };
    // Nobody else gets its number while anything is left of its group, and numbers are not given again at once.
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let said = attend(&mut child, input, within, keep).await;
    if let Some(group) = group {
        // Gone already, as a rule.
        let _ = killpg(group, Signal::SIGKILL);
    }
    let _ = child.wait().await;
    said
}

fn start(agent: &str) -> io::Result<Child> {
    Command::new(agent)
        .env_clear()
        .envs([("PATH", PATH), ("LANG", "C.UTF-8")])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

async fn attend(child: &mut Child, input: &str, within: Duration, keep: Keep) -> FenceSaid {
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let secrets: Vec<String> = secrets(input).collect();
    let longest = secrets.iter().map(|secret| secret.len()).max().unwrap_or(0);
    let (mut out, mut err) = (Kept::new(keep, longest), Kept::new(Keep::End, longest));
    let feeding = async {
        if let Some(mut pipe) = stdin.take() {
            // One that does not read its options says so by what it does.
            let _ = pipe.write_all(input.as_bytes()).await;
        }
    };
    let ended = {
        let reading = async {
            tokio::join!(out.read(stdout), err.read(stderr));
        };
        tokio::pin!(reading);
        let mut read = false;
        let ending = async {
            let (_, ended) = tokio::join!(feeding, child_end(child));
            ended
        };
        let bounded = timeout(within, ending);
        tokio::pin!(bounded);
        let ended = loop {
            tokio::select! {
                ended = &mut bounded => break ended,
                () = &mut reading, if !read => read = true,
            }
        };
        if !read {
            // What it started may hold the pipes open for ever.
            let _ = timeout(DRAIN, reading).await;
        }
        ended
    };
    let output = match keep {
        Keep::Beginning => out.text(),
        // Before anything is cut or made plain: what is left of a secret then would not be known for one.
        Keep::End => last_lines(&[err.without(&secrets), out.without(&secrets)]),
    };
    match ended {
        Ok(Ok(code)) => FenceSaid::Ran { code, output },
        Ok(Err(why)) => FenceSaid::Failed { why },
        Err(_elapsed) => {
            let said = if output.is_empty() { String::new() } else { format!("; it had said: {output}") };
            FenceSaid::Failed { why: format!("it had not ended after {}{said}", humantime::format_duration(within)) }
        }
    }
}

async fn child_end(child: &mut Child) -> Result<i32, String> {
    let status = child.wait().await.map_err(|why| why.to_string())?;
    status.code().ok_or_else(|| format!("it was killed ({status})"))
}

/// The values among an agent's options that nobody may see.
fn secrets(input: &str) -> impl Iterator<Item = String> {
    let options = input.lines().filter_map(|line| line.split_once('='));
    options.flat_map(|(name, value)| secrets_of(name, value))
}

/// The last lines of several texts, in one line.
fn last_lines(texts: &[String]) -> String {
    let lines =
        texts.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| line.contains(char::is_alphanumeric));
    let plain = |line: &str| line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let all = lines.map(plain).collect::<Vec<_>>().join(" | ");
    match all.char_indices().rev().nth(TAIL_MAX_BYTES) {
        Some((at, _)) => format!("...{}", &all[at..]),
        None => all,
    }
}

/// What is kept of one stream; all of it is read, so that nobody blocks on a full pipe.
struct Kept {
    keep: Keep,
    bytes: Vec<u8>,
    /// Of the longest secret, in bytes.
    longest: usize,
    /// The beginning was dropped, perhaps in the middle of a secret.
    cut: bool,
}

impl Kept {
    fn new(keep: Keep, longest: usize) -> Self {
        Self { keep, bytes: Vec::new(), longest, cut: false }
    }

    async fn read(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            self.add(&buffer[..count]);
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        match self.keep {
            Keep::Beginning => {
                let room = METADATA_MAX_BYTES - self.bytes.len();
                self.bytes.extend_from_slice(&bytes[..room.min(bytes.len())]);
            }
            Keep::End => {
                self.bytes.extend_from_slice(bytes);
                let over = self.bytes.len().saturating_sub(4 * TAIL_MAX_BYTES + self.longest);
                self.bytes.drain(..over);
                self.cut |= over > 0;
            }
        }
    }

    /// As text, without these secrets, and without what may be the rest of one.
    fn without(&self, secrets: &[String]) -> String {
        let text = strike(&self.text(), secrets.iter().map(String::as_str));
        let dropped = if self.cut { self.longest } else { 0 };
        text.char_indices().find(|(at, _)| *at >= dropped).map(|(at, _)| text[at..].to_owned()).unwrap_or_default()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn script(dir: &Path, body: &str) -> String {
        let path = dir.join("fence_fake");
        // Written under another name, so that no writer is left when it is run.
        let draft = dir.join("draft");
        std::fs::write(&draft, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::process::Command::new("cp").arg("-p").arg(&draft).arg(&path).status().unwrap();
        path.display().to_string()
    }

    async fn say(body: &str, input: &str, within: Duration, keep: Keep) -> FenceSaid {
        let dir = tempfile::tempdir().unwrap();
        run(&script(dir.path(), body), input, within, keep).await
    }

    #[tokio::test]
    async fn an_agent_reads_its_options_and_is_known_by_its_exit_code() {
        let said = say("cat; echo bad >&2; exit 2", "plug=1\naction=status\n", LONG, Keep::End).await;
        assert_eq!(said, FenceSaid::Ran { code: 2, output: "bad | plug=1 | action=status".to_owned() });
    }

    #[tokio::test]
    async fn one_that_is_not_there_is_absent_and_one_that_is_no_program_says_so() {
        assert_eq!(run("/no/such/agent", "", LONG, Keep::End).await, FenceSaid::Absent);
        assert!(matches!(run("/etc/passwd", "", LONG, Keep::End).await, FenceSaid::Failed { .. }));
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let agent = script(dir.path(), "cd \"${0%/*}\"; echo waiting; sleep 600 & echo $! >child; wait");
        let said = run(&agent, "", Duration::from_millis(700), Keep::End).await;
        let FenceSaid::Failed { why } = said else { panic!("{said:?}") };
        assert!(why.contains("not ended") && why.contains("waiting"), "{why}");
        let child: i32 = std::fs::read_to_string(dir.path().join("child")).unwrap().trim().parse().unwrap();
        let gone = || std::fs::read_to_string(format!("/proc/{child}/stat")).map_or(true, |s| s.contains(") Z"));
        for _ in 0..200 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("its child lives");
    }

    #[tokio::test]
    async fn endless_output_is_read_and_not_kept() {
        let body = "i=0; while [ $i -lt 20000 ]; do echo 'a line of nothing at all, over and over again'; i=$((i+1)); done; \
                    echo the end >&2; exit 1";
        let said = say(body, "", LONG, Keep::End).await;
        let FenceSaid::Ran { code: 1, output } = said else { panic!("{said:?}") };
        assert!(output.len() <= TAIL_MAX_BYTES + 10, "{} bytes", output.len());
        let FenceSaid::Ran { output, .. } = say(body, "", LONG, Keep::Beginning).await else { panic!() };
        assert_eq!(output.len(), METADATA_MAX_BYTES);
    }

    #[tokio::test]
    async fn no_part_of_a_secret_is_kept_wherever_it_is_cut() {
        let secret = "correct-horse\tbattery-staple";
        let input = format!("passwd={secret}\npassphrase=horse\nplug=7\n");
        for filler in (300..420).step_by(7).chain((1500..1700).step_by(7)) {
            let body = format!("printf '%s' '{secret}'; head -c {filler} /dev/zero | tr '\\0' x; exit 1");
            let FenceSaid::Ran { output, .. } = say(&body, &input, LONG, Keep::End).await else { panic!() };
            let kept = ["correct", "horse", "battery", "staple", "aple"].iter().find(|part| output.contains(**part));
            assert_eq!(kept, None, "{filler}: {output}");
        }
    }

    #[tokio::test]
    async fn a_child_that_holds_the_pipes_open_is_not_waited_for() {
        let said = say("sleep 600 & echo done", "", LONG, Keep::End).await;
        assert_eq!(said, FenceSaid::Ran { code: 0, output: "done".to_owned() });
    }

    #[tokio::test]
    async fn one_that_does_not_read_and_one_that_is_killed_are_told() {
        assert!(matches!(
            say("exit 0", &"x=y\n".repeat(50_000), LONG, Keep::End).await,
            FenceSaid::Ran { code: 0, .. }
        ));
        let FenceSaid::Failed { why } = say("kill -9 $$", "", LONG, Keep::End).await else { panic!() };
        assert!(why.contains("killed"), "{why}");
    }
}
