//! A host with two interfaces on one network. Linux answers ARP for every address of the host on each of them, and each
//! hears what the other says; neither must keep an address answering after its lease, or from being taken over.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pkgctl::engine::profile::lease_length;
use pkgctl::host::arp;
use pkgctl::host::netlink::nft::Nft;
use pkgctl::host::netlink::route::Route;
use pkgctl::host::tap::{Hears, Mac, Tap};
use pkgctl::package::Millis;

use super::ask::{self, Asker};
use super::keeper::{Keeper, now};
use super::scene::{DEVICE, SECOND, Scene, add_address, add_address_to, scene, until};
use super::{END, TTL_MS, VIP4, assert_answers, assert_silence, ip, mac_of, node_has, pass, pass_for, tables};

/// An address of the node that nobody guards.
const PLAIN: &str = "10.0.0.77";

fn leased_keeper(run: &std::path::Path) -> Keeper {
    let mut keeper = Keeper::start(run);
    keeper.order(&format!("lease {TTL_MS}"));
    keeper
}

/// Whether the interface of the node at the other end of this one of the client answers for an address.
fn answers_on(scene: &Scene, device: &'static str, address: &'static str) -> bool {
    scene.on_client(move || ask::by_neighbour_on(device, ip(address))(1))
}

#[test]
fn only_the_interface_that_has_an_address_answers_arp_for_it_and_none_after_the_lease() {
    scene(
        "two_interfaces::only_the_interface_that_has_an_address_answers_arp_for_it_and_none_after_the_lease",
        |scene| {
            if Nft::open().expect("nftables").lacks_arp() {
                println!("skipped: 1 (this kernel cannot filter ARP)");
                return;
            }
            scene.second_interface();
            add_address(ip(PLAIN), 24);
            until("the kernel answers for a plain address on both", || {
                [DEVICE, SECOND].iter().all(|device| answers_on(scene, device, PLAIN))
            });

            let run = tempfile::tempdir().expect("a run directory");
            let mut keeper = leased_keeper(run.path());
            let before_start = now();
            let ways: [(&'static str, &'static str); 2] = [("own interface", DEVICE), ("other interface", SECOND)];
            let askers = ways.map(|(way, device)| {
                scene.on_client(move || Asker::start(way, ask::by_neighbour_on(device, ip(VIP4))))
            });
            keeper.up("testpkg1", VIP4);
            let began = now();
            pass_for(500);
            let frozen = keeper.freeze();
            let t = frozen + lease_length(Millis(TTL_MS));
            pass(t + Duration::from_millis(400));
            assert!(node_has(VIP4), "the address itself is still there");
            assert!(answers_on(scene, SECOND, PLAIN), "what is not guarded is left alone");
            keeper.thaw();
            keeper.expect("lapsed testpkg1/10.0.0.100");
            assert_eq!(tables(), []);

            let [own, other] = askers.map(Asker::finish);
            assert_eq!(other.answered(before_start, END), 0, "of {}", other.sent(before_start, END));
            assert!(other.sent(began, frozen) > 0);
            let asked = [own];
            assert_answers(&asked, began, frozen);
            assert_silence(&asked, t);
        },
    );
}

/// Someone on the second interface's network who goes on claiming an address for a hardware address.
struct Claimer {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Claimer {
    fn start(address: &str, mac: Mac) -> Self {
        let IpAddr::V4(address) = ip(address) else { panic!("{address} is no IPv4 address") };
        let index = Route::open().and_then(|mut r| r.link(SECOND)).expect("links").expect("the interface").index;
        // The tap is only there to send.
        let tap = Tap::open(index, mac, Ipv4Addr::BROADCAST.into(), Hears::Later).expect("a tap");
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(2)) == Err(RecvTimeoutError::Timeout) {
                for frame in arp::announcements(mac, address) {
                    tap.send(&frame).expect("the link takes it");
                }
            }
        });
        Self { stop, thread }
    }

    fn finish(self) {
        drop(self.stop);
        self.thread.join().expect("it did not panic");
    }
}

#[test]
fn what_another_interface_of_the_same_host_says_is_no_conflict() {
    scene("two_interfaces::what_another_interface_of_the_same_host_says_is_no_conflict", |scene| {
        scene.second_interface();
        let foreign = Mac([2, 0, 0, 0, 0, 0x66]);
        let run = tempfile::tempdir().expect("a run directory");
        let mut keeper = leased_keeper(run.path());

        let stranger = Claimer::start("10.0.0.101", foreign);
        keeper.order("up testpkg2 10.0.0.101");
        let failed = keeper.expect("failed up testpkg2/10.0.0.101");
        assert!(failed.contains(&foreign.to_string()), "whoever it is that is not us: {failed}");
        stranger.finish();

        let ourselves = Claimer::start(VIP4, mac_of(SECOND));
        keeper.up("testpkg1", VIP4);
        // Heard on the address's interface while it is up, before the stranger's, which is told.
        let stranger = Claimer::start(VIP4, foreign);
        let note = keeper.expect("note the machine with hardware address");
        assert!(note.contains(&foreign.to_string()), "{note}");
        ourselves.finish();
        stranger.finish();
        assert_eq!(keeper.count(&mac_of(SECOND).to_string()), 0);
        assert_eq!(keeper.count("lapsed"), 0);
    });
}

#[test]
fn a_host_starts_an_address_though_its_other_interface_hears_the_probe() {
    scene("two_interfaces::a_host_starts_an_address_though_its_other_interface_hears_the_probe", |scene| {
        scene.second_interface();
        add_address(ip(PLAIN), 24);
        until("the kernel answers for a plain address on the other", || answers_on(scene, SECOND, PLAIN));
        let run = tempfile::tempdir().expect("a run directory");
        let mut keeper = leased_keeper(run.path());
        for _ in 0..3 {
            keeper.up("testpkg1", VIP4);
            keeper.order(&format!("down testpkg1 {VIP4}"));
            keeper.expect("done down testpkg1/10.0.0.100");
        }
    });
}

#[test]
fn an_address_that_another_interface_of_the_host_has_is_not_started() {
    scene("two_interfaces::an_address_that_another_interface_of_the_host_has_is_not_started", |scene| {
        scene.second_interface();
        add_address_to(SECOND, ip(VIP4), 16);
        let run = tempfile::tempdir().expect("a run directory");
        let mut keeper = leased_keeper(run.path());
        keeper.order(&format!("up testpkg1 {VIP4}"));
        let failed = keeper.expect("failed up testpkg1/10.0.0.100");
        assert!(failed.contains("eth1 already has 10.0.0.100/16"), "{failed}");
        assert_eq!(tables(), []);
    });
}
