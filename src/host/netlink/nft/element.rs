//! The elements whose presence opens an address: one per package in the set `lease` of each table, and the `permit`
//! that makes a first grant compare-and-set.

use std::fmt;
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList, SetElementMessage,
};

use super::batch::Batch;
use super::{FAMILIES, TABLE};

/// The set whose elements open addresses.
pub const LEASE: &str = "lease";
/// The set whose elements open nothing; only in the netdev table, since a batch spans all tables.
pub const PERMIT: &str = "permit";

/// One package's element: a number that this keeper life never uses for another package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// The key in the sets; in the order in which `nft` prints it.
    pub fn key(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Adds a permit; refused if there is one.
pub fn permit(slot: Slot, timeout: Duration) -> Batch {
    let mut batch = Batch::default();
    add(&mut batch, "add a permit", NetfilterProtoFamily::NetDev, PERMIT, slot, timeout);
    batch
}

/// Takes a permit away, whether it is there or not: add without exclusion, then delete.
pub fn clear_permit(slot: Slot) -> Batch {
    let mut batch = Batch::default();
    let element = message(PERMIT, vec![SetElementAttribute::Key(DataAttribute::Value(slot.key().to_vec()))]);
    let family = NetfilterProtoFamily::NetDev;
    batch.push("clear a permit", family, NLM_F_CREATE, NfTablesMessage::NewSetElement(element.clone()));
    batch.push("clear a permit", family, 0, NfTablesMessage::DeleteSetElement(element));
    batch
}

/// The first grant, compare-and-set: refused with ENOENT once the permit has run out, with EEXIST while an older lease
/// element is there.
pub fn grant(slot: Slot, timeout: Duration) -> Batch {
    let mut batch = Batch::default();
    delete(&mut batch, "use the permit", NetfilterProtoFamily::NetDev, PERMIT, slot);
    for family in FAMILIES {
        add(&mut batch, "add a lease element", family, LEASE, slot, timeout);
    }
    batch
}

/// The renewal, compare-and-set: refused with ENOENT once the element has run out. No add comes before the delete:
/// with one, a thawed keeper revived a lapsed lease.
pub fn renew(slot: Slot, timeout: Duration) -> Batch {
    let mut batch = Batch::default();
    for family in FAMILIES {
        delete(&mut batch, "renew a lease element", family, LEASE, slot);
        add(&mut batch, "renew a lease element", family, LEASE, slot, timeout);
    }
    batch
}

/// Shuts the addresses now, in each table by itself: the elements of a slot may run out a jiffy apart, and a batch
/// over all would then leave the others. Each is refused with ENOENT when there is no element.
pub fn revoke(slot: Slot) -> [Batch; FAMILIES.len()] {
    FAMILIES.map(|family| {
        let mut batch = Batch::default();
        delete(&mut batch, "delete a lease element", family, LEASE, slot);
        batch
    })
}

/// Empties the lease set of one table; refused with ENOENT when the table is not there.
pub fn revoke_all(family: NetfilterProtoFamily) -> Batch {
    let mut batch = Batch::default();
    let attributes = vec![SetElementList::Table(TABLE.into()), SetElementList::Set(LEASE.into())];
    let all = NfTablesMessage::DeleteSetElement(SetElementMessage { attributes });
    batch.push("delete every lease element", family, 0, all);
    batch
}

fn add(batch: &mut Batch, what: &'static str, family: NetfilterProtoFamily, set: &str, slot: Slot, timeout: Duration) {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let element = message(
        set,
        vec![
            SetElementAttribute::Key(DataAttribute::Value(slot.key().to_vec())),
            SetElementAttribute::Timeout(timeout_ms),
        ],
    );
    batch.push(what, family, NLM_F_CREATE | NLM_F_EXCL, NfTablesMessage::NewSetElement(element));
}

fn delete(batch: &mut Batch, what: &'static str, family: NetfilterProtoFamily, set: &str, slot: Slot) {
    let element = message(set, vec![SetElementAttribute::Key(DataAttribute::Value(slot.key().to_vec()))]);
    batch.push(what, family, 0, NfTablesMessage::DeleteSetElement(element));
}

/// A message about one element of one of our sets.
pub(super) fn message(set: &str, element: Vec<SetElementAttribute>) -> SetElementMessage {
    SetElementMessage {
        attributes: vec![
            SetElementList::Table(TABLE.into()),
            SetElementList::Set(set.into()),
            SetElementList::Elements(vec![ListAttribute::Element(element)]),
        ],
    }
}
