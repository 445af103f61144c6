//! Two hosts for a test: the node (this process) and a client, each in a network namespace of its own, joined by a
//! pair of virtual Ethernet interfaces. Every test runs in a process of its own, so that nothing of it can outlive it.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use pkgctl::host::netlink::route::Route;
use pkgctl::host::netlink::socket::{Protocol, Socket};
use pkgctl::host::tap::Mac;

/// Set in the process that runs a test's body.
const INSIDE: &str = "PKGCTL_GUARD_SCENE";
/// The interface of both hosts.
pub const DEVICE: &str = "eth0";
/// The other interface of both, once there is a [`Scene::second_interface`], and what joins the client's two.
pub const SECOND: &str = "eth1";
const BRIDGE: &str = "br0";
pub const NODE: [&str; 2] = ["10.0.0.1", "fd00::1"];
const CLIENT: [&str; 2] = ["10.0.0.9", "fd00::9"];

/// Runs `body` in namespaces of its own, or says why it cannot.
///
/// `test` is the calling test's name: the process for the body runs that test again, inside.
pub fn scene(test: &str, body: fn(&Scene)) {
    if std::env::var_os(INSIDE).is_some() {
        body(&Scene::build());
        return;
    }
    let mut command = Command::new(std::env::current_exe().expect("this test's executable"));
    command.args([test, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"]).env(INSIDE, "1");
    enter_new_namespaces(&mut command);
    match command.status() {
        Ok(status) => assert!(status.success(), "{test} failed inside its namespaces: {status}"),
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => println!("skipped: 1 ({test}: no namespaces allowed: {e})"),
        Err(e) => panic!("cannot run {test} in namespaces: {e}"),
    }
}

fn enter_new_namespaces(command: &mut Command) {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let root = uid.is_root();
    let maps = [("/proc/self/setgroups", "deny".to_owned()), ("/proc/self/uid_map", format!("0 {uid} 1"))];
    let gid_map = ("/proc/self/gid_map", format!("0 {gid} 1"));
    // SAFETY: between fork and exec of a child that shares nothing; it only unshares and writes three small files.
    unsafe {
        command.pre_exec(move || {
            let user = if root { CloneFlags::empty() } else { CloneFlags::CLONE_NEWUSER };
            unshare(user | CloneFlags::CLONE_NEWNET)?;
            if !root {
                for (file, text) in maps.iter().chain([&gid_map]) {
                    std::fs::write(file, text)?;
                }
            }
            // A test that is given up takes its body along.
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            Ok(())
        });
    }
}

type Task = Box<dyn FnOnce() + Send>;

/// The two hosts. The calling thread, and every thread it starts, is in the node's namespace.
pub struct Scene {
    tasks: mpsc::Sender<Task>,
    client: OwnedFd,
}

impl Scene {
    fn build() -> Self {
        let (tasks, inbox) = mpsc::channel::<Task>();
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace for the client");
            let namespace = std::fs::File::open("/proc/thread-self/ns/net").expect("its file");
            send.send(OwnedFd::from(namespace)).expect("the test waits");
            inbox.into_iter().for_each(|task| task());
        });
        let client: OwnedFd = receive.recv().expect("the client's namespace");
        let scene = Self { tasks, client };
        join_by_veth(&scene.client, DEVICE);
        configure(NODE);
        scene.on_client(|| configure(CLIENT));
        scene
    }

    /// Gives the node a second interface on the network of the first: a bridge at the client joins them. The client's
    /// ends of both still hear by themselves what each interface of the node says.
    pub fn second_interface(&self) {
        join_by_veth(&self.client, SECOND);
        self.on_client(|| {
            add_bridge();
            for name in [SECOND, BRIDGE] {
                set_up(name, true);
            }
            for name in [DEVICE, SECOND] {
                let bridge = index_of(BRIDGE);
                let port = change_link(name, |link| link.attributes.push(LinkAttribute::Controller(bridge)));
                let mut route = Route::open().expect("a route socket");
                route.request("join a bridge", RouteNetlinkMessage::SetLink(port), 0).expect("the port joins");
            }
        });
        set_up(SECOND, true);
    }

    /// Runs `task` in the client's namespace; threads that it starts stay there.
    pub fn on_client<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, receive) = mpsc::channel();
        self.tasks.send(Box::new(move || drop(send.send(task())))).expect("the client's thread lives");
        receive.recv().expect("the client's task did not panic")
    }
}

fn add_bridge() {
    let mut bridge = LinkMessage::default();
    bridge.attributes =
        vec![LinkAttribute::IfName(BRIDGE.into()), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)])];
    let mut route = Route::open().expect("a route socket");
    route.request("add a bridge", RouteNetlinkMessage::NewLink(bridge), NLM_F_CREATE | NLM_F_EXCL).expect("a bridge");
}

fn join_by_veth(client: &OwnedFd, name: &str) {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![LinkAttribute::IfName(name.into()), LinkAttribute::NetNsFd(client.as_raw_fd())];
    let mut pair = LinkMessage::default();
    pair.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    let mut route = Route::open().expect("a route socket");
    route.request("add a veth pair", RouteNetlinkMessage::NewLink(pair), NLM_F_CREATE | NLM_F_EXCL).expect("a veth");
}

fn configure(addresses: [&str; 2]) {
    for name in ["lo", DEVICE] {
        set_up(name, true);
    }
    for (address, prefix) in addresses.into_iter().zip([24, 64]) {
        add_address(address.parse().expect("an address"), prefix);
    }
}

/// Sets a link up or down.
pub fn set_up(name: &str, up: bool) {
    let message = change_link(name, |message| {
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    });
    let mut route = Route::open().expect("a route socket");
    route.request("set a link", RouteNetlinkMessage::SetLink(message), 0).expect("the link changes");
}

/// Gives a link that is up another name; false where the kernel does not (before 6.2).
pub fn rename(name: &str, new: &str) -> bool {
    let message = change_link(name, |message| message.attributes.push(LinkAttribute::IfName(new.into())));
    match Route::open().expect("a route socket").request("rename", RouteNetlinkMessage::SetLink(message), 0) {
        Ok(()) => true,
        Err(e) if e.refusal() == Some(Errno::EBUSY) => false,
        Err(e) => panic!("{e}"),
    }
}

/// Removes a link.
pub fn remove_link(name: &str) {
    let message = change_link(name, |_| {});
    let mut route = Route::open().expect("a route socket");
    route.request("remove a link", RouteNetlinkMessage::DelLink(message), 0).expect("the link goes");
}

fn change_link(name: &str, change: impl FnOnce(&mut LinkMessage)) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index_of(name);
    change(&mut message);
    message
}

fn index_of(name: &str) -> u32 {
    let link = Route::open().and_then(|mut route| route.link(name)).expect("links");
    link.unwrap_or_else(|| panic!("no link {name}")).index
}

/// What this host believes the hardware address of `ip` to be.
pub fn neighbour(ip: IpAddr) -> Option<Mac> {
    let mut socket = Socket::open(Protocol::Route).expect("a route socket");
    let ask = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let all = socket.dump("list neighbours", &ask).expect("neighbours");
    all.into_iter().find_map(|message| {
        let RouteNetlinkMessage::NewNeighbour(entry) = message else { return None };
        let wanted = NeighbourAttribute::Destination(address_of(ip));
        let mac = entry.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => mac[..].try_into().ok().map(Mac),
            _ => None,
        });
        mac.filter(|_| entry.attributes.contains(&wanted))
    })
}

/// Makes this host believe that `ip` is at `mac`, as after hearing from it.
pub fn set_neighbour(ip: IpAddr, mac: Mac) {
    let mut entry = NeighbourMessage::default();
    entry.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    entry.header.ifindex = index_of(DEVICE);
    entry.header.state = NeighbourState::Reachable;
    entry.attributes =
        vec![NeighbourAttribute::Destination(address_of(ip)), NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
    let mut route = Route::open().expect("a route socket");
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    route.request("set a neighbour", RouteNetlinkMessage::NewNeighbour(entry), flags).expect("the neighbour");
}

fn address_of(ip: IpAddr) -> NeighbourAddress {
    match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    }
}

/// Looks until it is so; gives up after twenty seconds.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let (_never, timer) = mpsc::channel::<()>();
    for _ in 0..2000 {
        if so() {
            return;
        }
        let _ = timer.recv_timeout(Duration::from_millis(10));
    }
    panic!("not within twenty seconds: {what}");
}

/// Adds an address to the interface in the calling thread's namespace, as an administrator would.
pub fn add_address(ip: IpAddr, prefix: u8) {
    add_address_to(DEVICE, ip, prefix);
}

/// The same on another interface.
pub fn add_address_to(name: &str, ip: IpAddr, prefix: u8) {
    let mut route = Route::open().expect("a route socket");
    let mut message = AddressMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = prefix;
    message.header.flags = AddressHeaderFlags::Nodad | AddressHeaderFlags::Permanent;
    message.header.index = index_of(name);
    message.attributes = vec![
        AddressAttribute::Local(ip),
        AddressAttribute::Address(ip),
        AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Permanent),
    ];
    route.request("add an address", RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE).expect("the address");
}
