//! A whole owner with nothing of ours running: keeper, leash and init are frozen while a package's address answers and
//! its program runs; both end by the lease's end. Two hosts in network namespaces; a client asks from the other one.

#[path = "guard/ask.rs"]
#[allow(dead_code, reason = "shared with another test, which uses all of it")]
mod ask;
#[path = "keeper/bench.rs"]
#[allow(dead_code, reason = "shared with another test, which uses all of it")]
mod bench;
#[path = "keeper/processes.rs"]
#[allow(dead_code, reason = "shared with another test, which uses all of it")]
mod processes;
#[path = "guard/scene.rs"]
#[allow(dead_code, reason = "shared with another test, which uses all of it")]
mod scene;

/// The clock that askers stamp their questions with.
mod keeper {
    use pkgctl::engine::HolderTime;

    /// CLOCK_BOOTTIME, as for every process of a test.
    pub fn now() -> HolderTime {
        HolderTime(pkgctl::host::clock::boot_now().0)
    }
}

use std::net::IpAddr;
use std::time::Duration;

use ask::{Ask, Asked, Asker};
use bench::{Bench, Keeper};
use pkgctl::engine::HolderTime;
use pkgctl::host::netlink::route::Route;
use pkgctl::keeper::protocol::{FromKeeper, Op, Outcome, Place};
use pkgctl::package::IpResource;
use processes::{await_end, children, eventually, freeze, open, thaw};
use scene::{DEVICE, Scene, scene};

const VIP: &str = "10.0.0.100";

fn vip() -> IpAddr {
    VIP.parse().unwrap()
}

fn ip() -> IpResource {
    IpResource { address: vip(), prefix: 24, device: DEVICE.to_owned() }
}

fn askers(scene: &Scene) -> Vec<Asker> {
    type Way = (&'static str, fn() -> Ask);
    let ways: [Way; 4] = [
        ("udp", || ask::by_udp(vip())),
        ("established tcp", || ask::by_established_tcp(vip())),
        ("new tcp", || ask::by_new_tcp(vip())),
        ("arp", || ask::by_neighbour(vip())),
    ];
    ways.into_iter().map(|(way, ask)| scene.on_client(move || Asker::start(way, ask()))).collect()
}

fn is_here() -> bool {
    let addresses = Route::open().and_then(|mut route| route.addresses()).unwrap();
    addresses.iter().any(|address| address.ip == vip())
}

fn await_lapse(b: &mut Bench, place: &Place) -> String {
    b.agent.hear(|frame| match frame {
        FromKeeper::Lapsed { place: of, why } if of == place => Some(why.clone()),
        _ => None,
    })
}

const END: HolderTime = HolderTime(u64::MAX);

fn assert_silent_from(asked: &[Asked], from: HolderTime) {
    for asked in asked {
        let margin = asked.last_answered().map(|last| from.since(last));
        println!("{:>16}: last answer asked for {margin:?} before the promise's end", asked.way);
        assert!(asked.sent(from, END) > 0, "{}: nothing was asked, so silence proves nothing", asked.way);
        assert_eq!(asked.answered(from, END), 0, "{} answered after the promise's end", asked.way);
    }
}

#[test]
fn with_every_process_of_ours_frozen_address_and_program_end_before_any_promise_does() {
    scene("with_every_process_of_ours_frozen_address_and_program_end_before_any_promise_does", |scene| {
        let mut b = Bench::leased();
        let (address, program) = (b.place("ip", 100), b.place("program", 100));
        assert_eq!(b.agent.ask(Op::StartIp { place: address.clone(), ip: ip() }), Outcome::Ok);
        let Some(pid) = b.start(&program, "sleep 1000", "frozen owner") else { return };
        ask::serve(vip());
        let began = keeper::now();
        let askers = askers(scene);
        // It answers while it is asked for a while.
        eventually("half a second", || (keeper::now().since(began) > Duration::from_millis(500)).then_some(()));

        let process = open(pid);
        let leash = children(b.keeper.pid())[0];
        let init = children(leash)[0];
        [b.keeper.pid(), leash, init].into_iter().for_each(freeze);
        let frozen = keeper::now();
        await_end(&process, "the program of a frozen owner");
        let promise = HolderTime(b.voter.promise_ends().0);
        eventually("the promise's end and a while", || {
            (keeper::now() > promise + Duration::from_millis(300)).then_some(())
        });
        b.voter.stop_acking();
        thaw(b.keeper.pid());
        println!("{}", await_lapse(&mut b, &address));
        await_lapse(&mut b, &program);
        let session = b.session;
        b.agent.over_session(session);
        assert!(!is_here(), "the address is taken away before the session is called over (rule 5)");

        let asked: Vec<_> = askers.into_iter().map(Asker::finish).collect();
        for asked in &asked {
            assert!(asked.answered(began, frozen) > 0, "{} never answered", asked.way);
        }
        assert_silent_from(&asked, promise);
    });
}

#[test]
fn an_address_stays_while_agents_change_and_goes_with_an_orderly_end() {
    scene("an_address_stays_while_agents_change_and_goes_with_an_orderly_end", |scene| {
        let mut b = Bench::leased();
        let place = b.place("ip", 100);
        assert_eq!(b.agent.ask(Op::SetIp { place: place.clone(), ip: ip() }), Outcome::Ok);
        assert!(is_here(), "what comes next may bind to it");
        ask::serve(vip());
        assert_eq!(b.agent.ask(Op::StartIp { place: place.clone(), ip: ip() }), Outcome::Ok);
        let asker = scene.on_client(|| Asker::start("udp", ask::by_udp_patiently(vip())));
        let began = keeper::now();
        b.agent = bench::Agent::attach(&mut b.keeper);
        assert_eq!(b.agent.welcome.running.len(), 1);
        assert_eq!(b.agent.ask(Op::StartIp { place, ip: ip() }), Outcome::Ok, "it is found (L18)");
        eventually("two ttl", || (keeper::now().since(began) > 2 * bench::TTL.duration()).then_some(()));
        let ended = keeper::now();
        let asked = asker.finish();
        let lost = asked.sent(began, ended) - asked.answered(began, ended);
        assert_eq!(lost, 0, "of {} questions", asked.sent(began, ended));
        b.agent.hang_up();
        b.keeper.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(b.keeper.wait(), Some(0));
        assert!(!is_here());
    });
}

#[test]
fn the_next_keeper_takes_away_what_a_killed_one_left() {
    scene("the_next_keeper_takes_away_what_a_killed_one_left", |_scene| {
        let mut b = Bench::leased();
        let place = b.place("ip", 100);
        assert_eq!(b.agent.ask(Op::StartIp { place, ip: ip() }), Outcome::Ok);
        b.keeper.signal(nix::sys::signal::Signal::SIGKILL);
        b.keeper.wait();
        assert!(is_here(), "nobody took it away");
        b.keeper = Keeper::start(&b.dir);
        b.agent = bench::Agent::attach(&mut b.keeper);
        assert!(b.agent.welcome.clean);
        assert!(!is_here(), "rule 5");
    });
}
