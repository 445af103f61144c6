//! What goes wrong with a node's cable, made on the bridge side so that the node's own carrier stays up: cuts, one way
//! if wanted, loss by chance, and deafness between two nodes only.
//!
//! Each way is a base chain of nftables' netdev family on the bridge port: on the ingress hook it drops what the node
//! sends, on the egress hook what it would receive. A cut is the policy drop. This works without privilege (in a user
//! namespace), where neither tc's eBPF nor netem does.

use std::io::Result;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DevHookNumber, Hook, HookNumber, NfTablesMessage, RuleAttribute, RuleMessage,
    TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::netlink;
use super::order::Direction;
use crate::host::netlink::nft::expr::{Base, Expression, Judgement, by_chance, judge, payload_is};

const TABLE: &str = "lab";
/// nf_tables' subsystem number, which batch marks carry in their resource field.
const NFT_SUBSYSTEM: u16 = 10;
const POLICY_DROP: u32 = 0;
const POLICY_ACCEPT: u32 = 1;
/// Of an Ethernet header, in bytes.
const DESTINATION: u32 = 0;
const SOURCE: u32 = 6;

/// What is wrong with a port's cable: an [`super::order::Cable`] whose nodes have become hardware addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) cut: Option<Direction>,
    pub(super) loss_percent: u8,
    pub(super) apart_from: Vec<[u8; 6]>,
}

/// Creates the table that all of it lives in.
pub(super) fn prepare() -> Result<()> {
    let table = TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] };
    batch(vec![(NfTablesMessage::NewTable(table), NLM_F_CREATE)])
}

/// Moves `port` from one state to another in one transaction, so that no packet slips through between.
pub(super) fn change(port: &str, from: &Wrong, to: &Wrong) -> Result<()> {
    let mut steps = Vec::new();
    for hook in [DevHookNumber::Ingress, DevHookNumber::Egress] {
        let (old, new) = (way(from, hook), way(to, hook));
        if old == new {
            continue;
        }
        if old.is_some() {
            steps.push((NfTablesMessage::DeleteChain(named(port, hook)), 0));
        }
        if let Some(way) = new {
            steps.push((NfTablesMessage::NewChain(chain(port, hook, way.policy)), NLM_F_CREATE));
            let rule = |expressions| NfTablesMessage::NewRule(rule(port, hook, expressions));
            steps.extend(way.rules.into_iter().map(|drop| (rule(drop), NLM_F_CREATE | NLM_F_APPEND)));
        }
    }
    if steps.is_empty() { Ok(()) } else { batch(steps) }
}

/// The chain on one hook of a port.
#[derive(PartialEq)]
struct Way {
    policy: u32,
    rules: Vec<Vec<Expression>>,
}

/// What one hook of the bridge port is to do; none where nothing is wrong that way, as the node sees it.
fn way(wrong: &Wrong, hook: DevHookNumber) -> Option<Way> {
    let sending = hook == DevHookNumber::Ingress;
    let closed = match wrong.cut {
        None => false,
        Some(Direction::Both) => true,
        Some(Direction::In) => !sending,
        Some(Direction::Out) => sending,
    };
    if closed {
        return Some(Way { policy: POLICY_DROP, rules: Vec::new() });
    }
    let drop = |matches: [Expression; 2]| matches.into_iter().chain([judge(&Judgement::Drop)]).collect::<Vec<_>>();
    let far = if sending { DESTINATION } else { SOURCE };
    let mut rules: Vec<_> = wrong.apart_from.iter().map(|mac| drop(payload_is(Base::Link, far, mac))).collect();
    if wrong.loss_percent > 0 {
        rules.push(drop(by_chance(wrong.loss_percent)));
    }
    (!rules.is_empty()).then_some(Way { policy: POLICY_ACCEPT, rules })
}

fn name(port: &str, hook: DevHookNumber) -> String {
    let suffix = if hook == DevHookNumber::Ingress { "from" } else { "to" };
    format!("{suffix}-{port}")
}

fn named(port: &str, hook: DevHookNumber) -> ChainMessage {
    ChainMessage { attributes: vec![ChainAttribute::Table(TABLE.to_owned()), ChainAttribute::Name(name(port, hook))] }
}

fn rule(port: &str, hook: DevHookNumber, expressions: Vec<Expression>) -> RuleMessage {
    let (table, chain) = (RuleAttribute::Table(TABLE.to_owned()), RuleAttribute::Chain(name(port, hook)));
    RuleMessage { attributes: vec![table, chain, RuleAttribute::Expressions(expressions)] }
}

fn chain(port: &str, hook: DevHookNumber, policy: u32) -> ChainMessage {
    let mut chain = named(port, hook);
    chain.attributes.push(ChainAttribute::Hook(vec![
        Hook::Number(HookNumber::Dev(hook)),
        Hook::Priority(0),
        Hook::NetDeviceName(port.to_owned()),
    ]));
    chain.attributes.push(ChainAttribute::Type("filter".to_owned()));
    chain.attributes.push(ChainAttribute::Policy(policy));
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
