//! Cuts of a node's cable, made on the bridge side so that the node's own carrier stays up, and one way if wanted.
//!
//! A cut is a base chain of nftables' netdev family on the bridge port, without rules and with policy drop: on the
//! ingress hook it drops what the node sends, on the egress hook what it would receive. This works without privilege
//! (in a user namespace), where neither tc's eBPF nor netem does.

use std::io::Result;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DevHookNumber, Hook, HookNumber, NfTablesMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::netlink;
use super::order::Direction;

const TABLE: &str = "lab";
/// nf_tables' subsystem number, which batch marks carry in their resource field.
const NFT_SUBSYSTEM: u16 = 10;
const POLICY_DROP: u32 = 0;

/// Creates the table that all cuts live in.
pub(super) fn prepare() -> Result<()> {
    let table = TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] };
    batch(vec![(NfTablesMessage::NewTable(table), NLM_F_CREATE)])
}

/// Moves `port` from one cut to another (`None`: whole) in one transaction, so that no packet slips through between.
pub(super) fn change(port: &str, from: Option<Direction>, to: Option<Direction>) -> Result<()> {
    let (old, new) = (closed(from), closed(to));
    let healed = old.iter().filter(|hook| !new.contains(hook));
    let cut = new.iter().filter(|hook| !old.contains(hook));
    let mut steps: Vec<_> = healed.map(|hook| (NfTablesMessage::DeleteChain(named(port, *hook)), 0)).collect();
    steps.extend(cut.map(|hook| (NfTablesMessage::NewChain(chain(port, *hook)), NLM_F_CREATE)));
    if steps.is_empty() { Ok(()) } else { batch(steps) }
}

/// The hooks of the bridge port that a cut, as the node sees it, closes.
fn closed(cut: Option<Direction>) -> &'static [DevHookNumber] {
    match cut {
        None => &[],
        Some(Direction::Both) => &[DevHookNumber::Ingress, DevHookNumber::Egress],
        Some(Direction::In) => &[DevHookNumber::Egress],
        Some(Direction::Out) => &[DevHookNumber::Ingress],
    }
}

fn named(port: &str, hook: DevHookNumber) -> ChainMessage {
    let suffix = if hook == DevHookNumber::Ingress { "from" } else { "to" };
    let name = ChainAttribute::Name(format!("{suffix}-{port}"));
    ChainMessage { attributes: vec![ChainAttribute::Table(TABLE.to_owned()), name] }
}

fn chain(port: &str, hook: DevHookNumber) -> ChainMessage {
    let mut chain = named(port, hook);
    chain.attributes.push(ChainAttribute::Hook(vec![
        Hook::Number(HookNumber::Dev(hook)),
        Hook::Priority(0),
        Hook::NetDeviceName(port.to_owned()),
    ]));
    chain.attributes.push(ChainAttribute::Type("filter".to_owned()));
    chain.attributes.push(ChainAttribute::Policy(POLICY_DROP));
    chain
}

/// One nftables transaction: all of it or none.
fn batch(steps: Vec<(NfTablesMessage, u16)>) -> Result<()> {
    let mark = |control: ControlMessage| {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFT_SUBSYSTEM);
        packet(NetfilterMessage::new(header, NetfilterMessageInner::None(control)), 0)
    };
    let mut messages = vec![mark(ControlMessage::BatchBegin)];
    for (step, flags) in steps {
        let header = NetfilterHeader::new(NetfilterProtoFamily::NetDev, 0, 0);
        messages.push(packet(NetfilterMessage::new(header, step), NLM_F_ACK | flags));
    }
    messages.push(mark(ControlMessage::BatchEnd));
    netlink::request(NETLINK_NETFILTER, messages)
}

fn packet(message: NetfilterMessage, flags: u16) -> NetlinkMessage<NetfilterMessage> {
    let mut packet = NetlinkMessage::from(message);
    packet.header.flags = NLM_F_REQUEST | flags;
    packet
}
