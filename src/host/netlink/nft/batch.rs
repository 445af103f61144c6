//! A transaction of nftables: everything in it happens, or nothing does, and every refusal is reported.

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;

use super::{FAMILIES, TABLE, family};
use crate::host::netlink::NetlinkError;
use crate::host::netlink::socket::{Protocol, Socket, encode};

/// Subsystem number that a batch names in its first and last message.
const NFTABLES_SUBSYSTEM: u16 = 10;

/// Changes to be made in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
struct Step {
    what: &'static str,
    flags: u16,
    message: NetfilterMessage,
}

impl Batch {
    /// Adds a change; `what` names it in errors.
    pub fn push(&mut self, what: &'static str, family: NetfilterProtoFamily, flags: u16, message: NfTablesMessage) {
        let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
        self.steps.push(Step { what, flags, message });
    }

    fn steps_for(&self, lacks_arp: bool) -> Vec<&Step> {
        let kept = |step: &&Step| !lacks_arp || step.message.header.family != NetfilterProtoFamily::ARP;
        self.steps.iter().filter(kept).collect()
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Why a batch did not take effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The kernel refused some of its changes; nothing changed.
    #[error("the kernel refused to {}", list(.0))]
    Refused(Vec<(&'static str, Errno)>),
    /// The kernel refused the transaction as a whole; nothing changed.
    #[error("the kernel refused an nftables transaction: {0}")]
    RefusedWhole(Errno),
    /// It is not known whether the transaction took effect.
    #[error("the outcome of an nftables transaction is unknown: {0}")]
    Unknown(NetlinkError),
}

impl BatchError {
    /// True when every refusal says that the thing to delete or its table is not there.
    pub fn is_absent(&self) -> bool {
        match self {
            BatchError::Refused(all) => all.iter().all(|(_, errno)| *errno == Errno::ENOENT),
            BatchError::RefusedWhole(_) | BatchError::Unknown(_) => false,
        }
    }
}

fn list(refused: &[(&'static str, Errno)]) -> String {
    refused.iter().map(|(what, errno)| format!("{what}: {errno}")).collect::<Vec<_>>().join(", ")
}

/// Commits batches in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    lacks_arp: bool,
}

impl Nft {
    /// Opens the socket, and finds out whether the kernel can filter ARP.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn open() -> Result<Self, NetlinkError> {
        let mut nft = Self { socket: Socket::open(Protocol::Netfilter)?, lacks_arp: false };
        let outcome = nft.commit(&family::trial());
        nft.lacks_arp = family::is_unknown(&outcome);
        Ok(nft)
    }

    /// True when this kernel cannot filter ARP; what batches say about that table is left out of them then.
    pub fn lacks_arp(&self) -> bool {
        self.lacks_arp
    }

    /// Port of the socket; ruleset events caused through it carry it.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Commits. Returns when the kernel has, which takes as long as any other transaction in this network namespace
    /// holds it up.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub fn commit(&mut self, batch: &Batch) -> Result<(), BatchError> {
        let steps = batch.steps_for(self.lacks_arp);
        if steps.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(steps.len()).unwrap_or(u32::MAX - 2);
        let first = self.socket.take_seqs(count + 2);
        let bytes = bytes(&steps, first);
        self.socket.send("commit", &bytes).map_err(|e| match e {
            NetlinkError::Transport { errno, .. } => BatchError::RefusedWhole(errno),
            other => BatchError::Unknown(other),
        })?;
        self.outcome(&steps, first)
    }

    fn outcome(&mut self, steps: &[&Step], first: u32) -> Result<(), BatchError> {
        let count = steps.len();
        let (mut refused, mut whole, mut done) = (Vec::new(), None, false);
        loop {
            let read = self.socket.next_datagram("commit", |message| {
                let position = message.seq.wrapping_sub(first) as usize;
                match (message.acknowledgement(), position) {
                    (None, _) => {}
                    (Some(answer), 0) => whole = answer.or(whole),
                    (Some(None), p) if p <= count => done |= p == count,
                    (Some(Some(errno)), p) if p <= count => refused.push((steps[p - 1].what, errno)),
                    // Left over from an earlier exchange, or about the batch's last message.
                    (Some(_), _) => {}
                }
                Ok(())
            });
            match read {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => return Err(BatchError::Unknown(e)),
            }
        }
        match (whole, refused.is_empty(), done) {
            (Some(errno), _, _) => Err(BatchError::RefusedWhole(errno)),
            (None, false, _) => Err(BatchError::Refused(refused)),
            (None, true, true) => Ok(()),
            (None, true, false) => Err(BatchError::Unknown(NetlinkError::Malformed {
                what: "commit".into(),
                why: "the kernel did not answer".into(),
            })),
        }
    }

    /// Which of our tables exist.
    ///
    /// # Errors
    /// When the kernel cannot list tables.
    pub fn tables(&mut self) -> Result<Vec<NetfilterProtoFamily>, NetlinkError> {
        let ask = NetfilterMessage::new(
            NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0),
            NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() }),
        );
        let found = self.socket.dump("list tables", &ask)?;
        let ours = found.into_iter().filter_map(|message| match &message.inner {
            NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) => {
                let named = table.attributes.contains(&TableAttribute::Name(TABLE.into()));
                (named && FAMILIES.contains(&message.header.family)).then_some(message.header.family)
            }
            _ => None,
        });
        Ok(ours.collect())
    }
}

fn bytes(steps: &[&Step], first: u32) -> Vec<u8> {
    let edge = |message, seq| {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFTABLES_SUBSYSTEM);
        encode(NetfilterMessage::new(header, message), NLM_F_REQUEST, seq)
    };
    let mut bytes = edge(ControlMessage::BatchBegin, first);
    let mut seq = first;
    for (at, step) in steps.iter().enumerate() {
        seq = seq.wrapping_add(1);
        // Refusals come in any case; one acknowledgement, of the last change, says that the rest went through.
        let ack = if at + 1 == steps.len() { NLM_F_ACK } else { 0 };
        bytes.extend(encode(step.message.clone(), NLM_F_REQUEST | ack | step.flags, seq));
    }
    bytes.extend(edge(ControlMessage::BatchEnd, seq.wrapping_add(1)));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::nft::{Shape, Slot, element};

    #[test]
    fn for_a_kernel_without_arp_a_batch_says_the_same_about_the_other_tables() {
        let mut shape = Shape::default();
        shape.packages.insert(Slot(1), "p".into());
        for batch in [shape.build(), element::renew(Slot(1), std::time::Duration::from_secs(1))] {
            let families = |lacks_arp| {
                let families = batch.steps_for(lacks_arp).into_iter().map(|step| step.message.header.family);
                families.collect::<Vec<_>>()
            };
            let (all, without) = (families(false), families(true));
            assert!(all.contains(&NetfilterProtoFamily::ARP));
            let others = all.into_iter().filter(|family| *family != NetfilterProtoFamily::ARP);
            assert_eq!(without, others.collect::<Vec<_>>());
        }
        assert!(element::revoke(Slot(1))[2].steps_for(true).is_empty());
    }
}
