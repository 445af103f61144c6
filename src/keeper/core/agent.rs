//! What the agent says, and how long its silence is borne.

use std::time::Duration;

use super::ports::{Effect, Now};
use super::{Core, operations};
use crate::engine::HolderTime;
use crate::engine::lease::Learn;
use crate::keeper::protocol::{Configuration, FromKeeper, OLDEST_VERSION, ToKeeper, VERSION, Welcome};
use crate::package::Millis;

/// What is known of the agent's fitness.
#[derive(Clone, Debug)]
pub struct Agent {
    /// When it last said that it is fit; the keeper's start before its first word.
    heard: HolderTime,
    /// It was said that renewals have stopped because of its silence.
    silent: bool,
    /// Its store has failed for good, or the node is being shut down: why. Lasts until the session is over.
    pub(super) retired: Option<String>,
}

impl Agent {
    pub(super) fn new(now: HolderTime) -> Self {
        Self { heard: now, silent: false, retired: None }
    }

    /// Whether its silence is still borne.
    pub(super) fn is_fit(&self, grace: Duration, now: HolderTime) -> bool {
        now.since(self.heard) < grace
    }

    /// When its silence will not be borne any more.
    pub(super) fn grace_ends(&self, grace: Duration) -> HolderTime {
        self.heard + grace
    }

    /// Whether renewals have stopped because of its silence.
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// Takes whether it is fit now; returns whether that is news.
    pub(super) fn turned(&mut self, fit: bool) -> bool {
        let news = self.silent == fit;
        self.silent = !fit;
        news
    }
}

impl Core {
    /// An agent connected, or the one that was there is gone. Either way nobody has been welcomed.
    pub(super) fn agent_changed(&mut self) {
        self.out.next_connection();
        // A new agent asks anew if it leads.
        self.collections.clear();
    }

    pub(super) fn frame(&mut self, frame: ToKeeper, now: Now) {
        match frame {
            ToKeeper::Hello { version, program } => self.hello(version, &program, now),
            _ if !self.out.is_attached() => self.disconnect("its first frame was not a Hello"),
            ToKeeper::Configure(configuration) => self.configure(configuration, now),
            ToKeeper::Learn(step) => self.learn(step, now),
            ToKeeper::Alive => self.agent.heard = now.holder,
            ToKeeper::Retire { why } => self.retire(why, now),
            ToKeeper::End { why } => {
                self.retire(why, now);
                self.end_alone();
            }
            ToKeeper::Collect { session, ttl, voters } => {
                if let Err(why) = self.collections.begin(session, ttl, voters, now.voter) {
                    self.out.note(None, why);
                }
            }
            ToKeeper::Abandon { session } => self.collections.abandon(session),
            ToKeeper::Do { id, op } => self.operate(operations::waiter(&self.out, id), op, now),
        }
    }

    fn disconnect(&mut self, why: &str) {
        self.out.push(Effect::Disconnect { why: why.to_owned() });
    }

    fn hello(&mut self, version: u32, program: &str, now: Now) {
        if self.out.is_attached() {
            return self.disconnect("it said Hello twice");
        }
        if version < OLDEST_VERSION {
            return self.disconnect(&format!(
                "agent {program} speaks protocol {version}, this keeper {OLDEST_VERSION} to {VERSION}: install one \
                 version of pkgctl for both, drain this node and restart the keeper"
            ));
        }
        self.out.attach();
        let welcome = Welcome {
            version: version.min(VERSION),
            program: self.settings.program.clone(),
            nonce: self.settings.nonce,
            scheduling: self.settings.scheduling.clone(),
            lease: self.lease_view(now),
            released: self.tokens.released().clone(),
            largest: self.tokens.largest().clone(),
            running: self.inventory.hand_over(),
            clean: true,
        };
        self.out.tell(FromKeeper::Welcome(welcome));
        for (session, since) in self.voter.silent(now.voter) {
            self.out.tell(FromKeeper::Silent { session, since: Millis::from(since) });
        }
        self.tell_leaving();
    }

    /// A keeper belongs to one node of one cluster for its whole life.
    fn configure(&mut self, mut new: Configuration, now: Now) {
        if let Some(old) = self.configuration.as_ref().filter(|old| (old.cluster, old.node) != (new.cluster, new.node))
        {
            let text = format!(
                "this keeper belongs to node {} of cluster {}, not to node {} of cluster {}; nothing was changed. \
                 Restart the keeper to use it for another node",
                old.node, old.cluster, new.node, new.cluster
            );
            return self.out.note(None, text);
        }
        let before = self.configuration.as_ref();
        if let Some(old) = before.filter(|old| old.keys_at > new.keys_at) {
            (new.keys, new.sealing_key, new.keys_at) = (old.keys.clone(), old.sealing_key, old.keys_at);
        }
        let rekeyed = before.is_none_or(|old| old.keys_at != new.keys_at);
        if before != Some(&new) {
            self.voter.begin(new.node);
            self.watchdog_ttl(new.profile.ttl(), now);
            self.out.push(Effect::Configure(Box::new(new.clone())));
            self.configuration = Some(new);
        }
        if rekeyed {
            self.tell_lease(now);
        }
    }

    fn learn(&mut self, step: Learn, now: Now) {
        if self.knowledge.learn(step) {
            self.collections.learn(&self.knowledge);
            let notices = self.voter.due(&self.knowledge, now.voter);
            self.notice(notices);
        }
    }

    /// No more renewals from now on, and an orderly end of everything within what is left of the lease.
    fn retire(&mut self, why: String, now: Now) {
        self.out.note(None, format!("retiring: {why}. Everything here is stopped and the lease is not renewed"));
        self.agent.retired = Some(why);
        // The agent has done its part.
        self.leave_alone();
        if self.tenure.held().is_some() && !self.tenure.has_lease() {
            self.end_session("the agent retired before a lease began", now);
        }
    }
}
