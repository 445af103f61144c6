//! What other keepers say, and what this one says to itself.

use super::Core;
use super::ports::{Effect, Now};
use crate::engine::NodeId;
use crate::engine::lease::{Message, Notice};
use crate::keeper::protocol::FromKeeper;
use crate::net::datagram::JOINER;
use crate::package::Millis;

impl Core {
    /// Takes a datagram. Until the agent has said who this node is, there is nobody to be talked to.
    pub(super) fn receive(&mut self, from: NodeId, message: Message, now: Now) {
        if self.node().is_none() {
            return;
        }
        if from == JOINER {
            // A node without an id may ask whether it is heard, and nothing else.
            if let Message::Ping { nonce } = message {
                let ready = self.voter.is_ready(&self.knowledge);
                self.out.push(Effect::Send { to: JOINER, message: Message::Pong { nonce, ready } });
            }
            return;
        }
        self.deliver(from, message, now);
    }

    fn deliver(&mut self, from: NodeId, message: Message, now: Now) {
        match message {
            Message::Renew { .. } | Message::Query { .. } | Message::Ask { .. } => {
                let notices = self.voter.receive(from, &message, &self.knowledge, now.voter);
                self.notice(notices);
            }
            Message::Ack { .. } | Message::Refuse { .. } => self.tenure.receive(from, &message, now.holder),
            Message::Agreed { session, incarnation } => {
                let word = self.collections.agreed(session, from, incarnation, now.voter);
                word.into_iter().for_each(|word| self.out.tell(word));
            }
            Message::AskSet { nonce } => {
                // Rule 16: what is confirmed is what is known by rule 7.
                let set = self.knowledge.newest_set().map(|(set, _)| set);
                self.send(from, Message::KnowsSet { nonce, set });
            }
            Message::KnowsSet { nonce, set } => self.surveys.knows_set(nonce, from, set),
            Message::Ping { nonce } => {
                let ready = self.voter.is_ready(&self.knowledge);
                self.send(from, Message::Pong { nonce, ready });
            }
            Message::Pong { nonce, ready } => self.surveys.pong(nonce, from, ready),
        }
    }

    /// What the voter wants sent and known.
    pub(super) fn notice(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Send { to, message } => self.send(to, message),
                Notice::Silent { session, since } => {
                    self.out.tell(FromKeeper::Silent { session, since: Millis::from(since) });
                }
                Notice::Heard { session } => self.out.tell(FromKeeper::Heard { session }),
            }
        }
    }

    /// Sends to another keeper, or to this one.
    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        if self.node() == Some(to) {
            self.mail.push_back(message);
        } else {
            self.out.push(Effect::Send { to, message });
        }
    }

    /// Delivers what this node has sent to itself. It ends: answers are not answered.
    pub(super) fn read_mail(&mut self, now: Now) {
        let Some(me) = self.node() else { return };
        while let Some(message) = self.mail.pop_front() {
            self.deliver(me, message, now);
        }
    }
}
