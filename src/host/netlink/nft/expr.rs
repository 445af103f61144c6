//! The expressions that the guard's rules are made of.

use netlink_packet_netfilter::nftables::{
    Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta, MetaKey, Operator,
    Payload, Register, Verdict, VerdictAttribute,
};

/// One expression of a rule.
pub type Expression = ListAttribute<ExpressionAttribute>;

/// `NF_DROP` and `NF_ACCEPT`.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// Lookup flag: match when the key is *not* in the set.
const INVERTED: u32 = 1;

/// Where a payload offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The link header: Ethernet.
    Link,
    /// The network header: IP, IPv6, ARP.
    Network,
    /// The transport header: ICMPv6.
    Transport,
}

/// What a rule or a map element does with the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Drop it.
    Drop,
    /// This base chain lets it pass.
    Accept,
    /// Go through that chain, then come back.
    Jump(String),
}

impl Judgement {
    /// As the data of an element or an immediate.
    pub fn verdict(&self) -> DataAttribute {
        let attributes = match self {
            Judgement::Drop => vec![VerdictAttribute::Code(Verdict::Other(DROP))],
            Judgement::Accept => vec![VerdictAttribute::Code(Verdict::Other(ACCEPT))],
            Judgement::Jump(chain) => {
                vec![VerdictAttribute::Code(Verdict::Jump), VerdictAttribute::Chain(chain.clone())]
            }
        };
        DataAttribute::Verdict(attributes)
    }
}

/// Loads a property of the packet and goes on if it equals `value`.
pub fn meta_is(key: MetaKey, value: &[u8]) -> [Expression; 2] {
    let load = Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)]);
    [load.into(), compare(Operator::Equal, value)]
}

/// Loads a property of the packet and goes on unless it equals `value`.
pub fn meta_is_not(key: MetaKey, value: &[u8]) -> [Expression; 2] {
    let load = Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)]);
    [load.into(), compare(Operator::NotEqual, value)]
}

/// Goes on for about that share of the packets, drawn by the kernel's own chance.
pub fn by_chance(percent: u8) -> [Expression; 2] {
    let load = Expressions::Meta(vec![Meta::Key(MetaKey::PseudoRandom), Meta::DestinationRegister(Register::Reg1)]);
    let share = u64::from(u32::MAX) * u64::from(percent.min(100)) / 100;
    // Registers are compared byte by byte from the first, as big-endian numbers.
    [load.into(), compare(Operator::LessThan, &u32::try_from(share).unwrap_or(u32::MAX).to_be_bytes())]
}

/// Loads bytes of the packet and goes on if they equal `value`.
pub fn payload_is(base: Base, offset: u32, value: &[u8]) -> [Expression; 2] {
    [payload(base, offset, u32::try_from(value.len()).unwrap_or(0)), compare(Operator::Equal, value)]
}

/// Loads bytes of the packet.
pub fn payload(base: Base, offset: u32, length: u32) -> Expression {
    let base = match base {
        Base::Link => 0,
        Base::Network => 1,
        Base::Transport => 2,
    };
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
    .into()
}

fn compare(operator: Operator, value: &[u8]) -> Expression {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value.to_vec())),
    ])
    .into()
}

/// Does what the map says about the loaded bytes, or goes on with the next rule.
pub fn judge_by(map: &str) -> Expression {
    Expressions::Lookup(vec![
        Lookup::Set(map.into()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::DestinationRegister(Register::Verdict),
    ])
    .into()
}

/// Loads a constant.
pub fn constant(value: &[u8]) -> Expression {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Reg1),
        Immediate::Data(DataAttribute::Value(value.to_vec())),
    ])
    .into()
}

/// Goes on if what is loaded is not in the set.
pub fn absent_from(set: &str) -> Expression {
    Expressions::Lookup(vec![Lookup::Set(set.into()), Lookup::SourceRegister(Register::Reg1), Lookup::Flags(INVERTED)])
        .into()
}

/// The rule's end.
pub fn judge(judgement: &Judgement) -> Expression {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(judgement.verdict()),
    ])
    .into()
}
