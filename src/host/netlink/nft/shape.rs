//! The guard as a value: which interfaces are hooked, which packages have a chain, where each address is and leads. What
//! to tell the kernel is the difference between the shape it has and the shape wanted, in one transaction.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, DevHookNumber, Hook, HookNumber, InetHookNumber, NfTablesMessage,
    RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetFlags, SetMessage, TableAttribute, TableMessage,
};

use super::batch::Batch;
use super::element::{LEASE, PERMIT, Slot, message};
use super::expr::{self, Expression, Judgement};
use super::rules;
use super::{FAMILIES, TABLE};

/// Chain with the rules that look an address up.
pub(super) const ADDRESSES: &str = "addresses";
/// Maps from address to judgement.
pub(super) const MAP4: &str = "ip4";
pub(super) const MAP6: &str = "ip6";
/// Map from address to the chain of its interface, in the table about ARP.
pub(super) const HOMES: &str = "homes";
/// Chain where shut addresses lead.
const SHUT: &str = "shut";
/// Prefix of the chain that drops questions about an address unless they came in on this interface.
const HOME: &str = "home";
/// Our hooks come before everybody else's: nothing behind them sees what they drop.
const PRIORITY: i32 = -500;
/// `NF_ARP_IN` and `NF_ARP_OUT`.
const ARP_HOOKS: [(&str, HookNumber); 2] = [("input", HookNumber::Other(0)), ("output", HookNumber::Other(1))];
/// Names of nft's data types, so that `nft list ruleset` prints keys for people.
const TYPE_MARK: u32 = 19;
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_VERDICT: u32 = 0xffff_ff00;

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Dropped, whatever its package's element says: it is coming up or going down.
    Shut,
    /// To its package's chain: open while the package's element is there.
    Package(Slot),
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Index of its interface, the only one on which ARP for it is answered.
    pub device: u32,
    /// Where it leads.
    pub path: Path,
}

/// The whole guard of a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Guarded interfaces: index and present name.
    pub devices: BTreeMap<u32, String>,
    /// Packages with a chain, and their names.
    pub packages: BTreeMap<Slot, String>,
    /// Where each address is.
    pub addresses: BTreeMap<IpAddr, Seat>,
}

impl Shape {
    /// True when nothing is guarded; there are no tables then.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.packages.is_empty() && self.addresses.is_empty()
    }

    /// The transaction that makes `self` out of whatever stands under our names: everything shut, no element present.
    pub fn build(&self) -> Batch {
        let mut batch = Batch::default();
        clear(&mut batch);
        if !self.is_empty() {
            base(&mut batch);
            self.grow(&Shape::default(), &mut batch);
        }
        batch
    }

    /// The transaction that makes `next` out of `self`.
    pub fn change_to(&self, next: &Shape) -> Batch {
        if self.is_empty() || next.is_empty() {
            return if self == next { Batch::default() } else { next.build() };
        }
        let mut batch = Batch::default();
        next.grow(self, &mut batch);
        next.shrink(self, &mut batch);
        batch
    }

    /// Adds what `self` has more than `old`, and turns what leads elsewhere.
    fn grow(&self, old: &Shape, batch: &mut Batch) {
        for (slot, name) in self.packages.iter().filter(|(slot, _)| !old.packages.contains_key(slot)) {
            for family in FAMILIES {
                chain(batch, family, &package_chain(*slot, name), None);
                let key = slot.key();
                let rule = vec![expr::constant(&key), expr::absent_from(LEASE), expr::judge(&Judgement::Drop)];
                add_rule(batch, family, &package_chain(*slot, name), rule);
            }
        }
        for (index, device) in self.devices.iter().filter(|(index, name)| old.devices.get(index) != Some(name)) {
            if old.devices.contains_key(index) {
                unhook(batch, *index);
            }
            hook(batch, *index, device);
        }
        for index in self.devices.keys().filter(|index| !old.devices.contains_key(index)) {
            chain(batch, NetfilterProtoFamily::ARP, &device_chain(HOME, *index), None);
            add_rule(batch, NetfilterProtoFamily::ARP, &device_chain(HOME, *index), rules::elsewhere(*index));
        }
        for (ip, seat) in self.addresses.iter().filter(|(ip, seat)| old.addresses.get(ip) != Some(seat)) {
            if old.addresses.contains_key(ip) {
                unmap(batch, *ip);
            }
            self.map(batch, *ip, *seat);
        }
    }

    /// Takes away what `old` has more than `self`; nothing leads to it any more.
    fn shrink(&self, old: &Shape, batch: &mut Batch) {
        for ip in old.addresses.keys().filter(|ip| !self.addresses.contains_key(ip)) {
            unmap(batch, *ip);
        }
        for (slot, name) in old.packages.iter().filter(|(slot, _)| !self.packages.contains_key(slot)) {
            for family in FAMILIES {
                delete_chain(batch, family, &package_chain(*slot, name));
            }
        }
        for index in old.devices.keys().filter(|index| !self.devices.contains_key(index)) {
            unhook(batch, *index);
            delete_chain(batch, NetfilterProtoFamily::ARP, &device_chain(HOME, *index));
        }
    }

    fn map(&self, batch: &mut Batch, ip: IpAddr, seat: Seat) {
        let chain = match seat.path {
            Path::Shut => SHUT.to_owned(),
            // A path to a package without a chain stays shut rather than being refused.
            Path::Package(slot) => match self.packages.get(&slot) {
                Some(name) => package_chain(slot, name),
                None => SHUT.to_owned(),
            },
        };
        let home = if self.devices.contains_key(&seat.device) { device_chain(HOME, seat.device) } else { SHUT.into() };
        for (family, map) in maps_of(ip) {
            let leads_to = if map == HOMES { &home } else { &chain };
            let element = vec![
                SetElementAttribute::Key(DataAttribute::Value(octets(ip))),
                SetElementAttribute::Data(Judgement::Jump(leads_to.clone()).verdict()),
            ];
            let element = NfTablesMessage::NewSetElement(message(map, element));
            batch.push("map an address", family, NLM_F_CREATE, element);
        }
    }
}

fn package_chain(slot: Slot, name: &str) -> String {
    format!("p{slot}-{name}")
}

fn device_chain(direction: &str, index: u32) -> String {
    format!("{direction}-{index}")
}

/// The maps that hold an address: there is no ARP for IPv6, and neighbour discovery only answers on the interface that
/// has the address.
fn maps_of(ip: IpAddr) -> Vec<(NetfilterProtoFamily, &'static str)> {
    use NetfilterProtoFamily::{ARP, Inet, NetDev};
    match ip {
        IpAddr::V4(_) => vec![(NetDev, MAP4), (Inet, MAP4), (ARP, MAP4), (ARP, HOMES)],
        IpAddr::V6(_) => vec![(NetDev, MAP6), (Inet, MAP6)],
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Deletes our tables, whether they are there or not.
fn clear(batch: &mut Batch) {
    let table = TableMessage { attributes: vec![TableAttribute::Name(TABLE.into())] };
    for family in FAMILIES {
        batch.push("clear a table", family, NLM_F_CREATE, NfTablesMessage::NewTable(table.clone()));
        batch.push("clear a table", family, 0, NfTablesMessage::DeleteTable(table.clone()));
    }
}

/// Our tables with their sets, the address rules and the hooks of `inet` and `arp`.
fn base(batch: &mut Batch) {
    let table = TableMessage { attributes: vec![TableAttribute::Name(TABLE.into())] };
    for (id, family) in (0_u32..).step_by(8).zip(FAMILIES) {
        batch.push("add a table", family, NLM_F_CREATE, NfTablesMessage::NewTable(table.clone()));
        set(batch, family, LEASE, id, SetFlags::Timeout, (TYPE_MARK, 4));
        if family == NetfilterProtoFamily::NetDev {
            set(batch, family, PERMIT, id + 1, SetFlags::Timeout, (TYPE_MARK, 4));
        }
        set(batch, family, MAP4, id + 2, SetFlags::Map, (TYPE_IPV4, 4));
        if family == NetfilterProtoFamily::ARP {
            set(batch, family, HOMES, id + 3, SetFlags::Map, (TYPE_IPV4, 4));
        } else {
            set(batch, family, MAP6, id + 3, SetFlags::Map, (TYPE_IPV6, 16));
        }
        chain(batch, family, SHUT, None);
        add_rule(batch, family, SHUT, vec![expr::judge(&Judgement::Drop)]);
        chain(batch, family, ADDRESSES, None);
    }
    for rule in rules::on_a_device() {
        add_rule(batch, NetfilterProtoFamily::NetDev, ADDRESSES, rule);
    }
    for rule in rules::on_this_host() {
        add_rule(batch, NetfilterProtoFamily::Inet, ADDRESSES, rule);
    }
    for rule in rules::on_any_link() {
        add_rule(batch, NetfilterProtoFamily::ARP, ADDRESSES, rule);
    }
    for (name, hook) in [("input", InetHookNumber::LocalIn), ("output", InetHookNumber::LocalOut)] {
        chain(batch, NetfilterProtoFamily::Inet, name, Some((hook.into(), None)));
        let jump = expr::judge(&Judgement::Jump(ADDRESSES.into()));
        add_rule(batch, NetfilterProtoFamily::Inet, name, vec![jump]);
    }
    for (name, hook) in ARP_HOOKS {
        chain(batch, NetfilterProtoFamily::ARP, name, Some((hook, None)));
        if name == "input" {
            add_rule(batch, NetfilterProtoFamily::ARP, name, rules::to_its_home());
        }
        add_rule(batch, NetfilterProtoFamily::ARP, name, vec![expr::judge(&Judgement::Jump(ADDRESSES.into()))]);
    }
}

/// The base chains of one interface. What the probes need passes on the way out, before the address rules.
fn hook(batch: &mut Batch, index: u32, device: &str) {
    let family = NetfilterProtoFamily::NetDev;
    for (direction, hook) in [("ingress", DevHookNumber::Ingress), ("egress", DevHookNumber::Egress)] {
        let name = device_chain(direction, index);
        chain(batch, family, &name, Some((hook.into(), Some(device))));
        if hook == DevHookNumber::Egress {
            for rule in rules::probes() {
                add_rule(batch, family, &name, rule);
            }
        }
        add_rule(batch, family, &name, vec![expr::judge(&Judgement::Jump(ADDRESSES.into()))]);
    }
}

fn unhook(batch: &mut Batch, index: u32) {
    for direction in ["ingress", "egress"] {
        delete_chain(batch, NetfilterProtoFamily::NetDev, &device_chain(direction, index));
    }
}

fn unmap(batch: &mut Batch, ip: IpAddr) {
    for (family, map) in maps_of(ip) {
        let element = vec![SetElementAttribute::Key(DataAttribute::Value(octets(ip)))];
        let element = NfTablesMessage::DeleteSetElement(message(map, element));
        batch.push("unmap an address", family, 0, element);
    }
}

fn chain(batch: &mut Batch, family: NetfilterProtoFamily, name: &str, at: Option<(HookNumber, Option<&str>)>) {
    let mut attributes = vec![ChainAttribute::Table(TABLE.into()), ChainAttribute::Name(name.into())];
    if let Some((number, device)) = at {
        let mut hook = vec![Hook::Number(number), Hook::Priority(PRIORITY.cast_unsigned())];
        hook.extend(device.map(|device| Hook::NetDeviceName(device.into())));
        attributes.push(ChainAttribute::Hook(hook));
        attributes.push(ChainAttribute::Type("filter".into()));
    }
    batch.push("add a chain", family, NLM_F_CREATE, NfTablesMessage::NewChain(ChainMessage { attributes }));
}

fn delete_chain(batch: &mut Batch, family: NetfilterProtoFamily, name: &str) {
    let attributes = vec![ChainAttribute::Table(TABLE.into()), ChainAttribute::Name(name.into())];
    batch.push("delete a chain", family, 0, NfTablesMessage::DeleteChain(ChainMessage { attributes }));
}

fn add_rule(batch: &mut Batch, family: NetfilterProtoFamily, chain: &str, expressions: Vec<Expression>) {
    let attributes = vec![
        RuleAttribute::Table(TABLE.into()),
        RuleAttribute::Chain(chain.into()),
        RuleAttribute::Expressions(expressions),
    ];
    let flags = NLM_F_CREATE | netlink_packet_core::NLM_F_APPEND;
    batch.push("add a rule", family, flags, NfTablesMessage::NewRule(RuleMessage { attributes }));
}

fn set(batch: &mut Batch, family: NetfilterProtoFamily, name: &str, id: u32, flags: SetFlags, key: (u32, u32)) {
    let mut attributes = vec![
        SetAttribute::Table(TABLE.into()),
        SetAttribute::Name(name.into()),
        SetAttribute::Id(id + 1),
        SetAttribute::Flags(flags),
        SetAttribute::KeyType(key.0),
        SetAttribute::KeyLen(key.1),
    ];
    if flags.contains(SetFlags::Map) {
        attributes.push(SetAttribute::DataType(TYPE_VERDICT));
        attributes.push(SetAttribute::DataLen(16));
    }
    batch.push("add a set", family, NLM_F_CREATE, NfTablesMessage::NewSet(SetMessage { attributes }));
}
