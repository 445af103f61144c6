//! Ways of asking a floating address for a sign of life. Each question is sent at a known time and waits a little for
//! its own answer, so that what counts is when it was *asked*, however late a loaded machine reads the answer.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use pkgctl::engine::HolderTime;
use pkgctl::host::netlink::route::Route;
use pkgctl::host::tap::{Hears, Mac, Tap};
use std::os::fd::AsFd;

use super::keeper::now;
use super::scene::DEVICE;

pub const PORT: u16 = 7;
/// How long a question waits for its answer.
const WAIT: Duration = Duration::from_millis(40);
/// How long it waits where it must be answered, on a machine as slow as they get.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers whatever is asked of `ip` by UDP and TCP; call it in the node's namespace when the address is up.
pub fn serve(ip: IpAddr) {
    let udp = UdpSocket::bind((ip, PORT)).expect("the address is here");
    thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((length, from)) = udp.recv_from(&mut bytes) {
            // What the guard drops on the way out is an error here.
            let _ = udp.send_to(&bytes[..length], from);
        }
    });
    let tcp = TcpListener::bind((ip, PORT)).expect("the address is here");
    thread::spawn(move || {
        for stream in tcp.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let (mut reader, mut writer) = (&stream, &stream);
                std::io::copy(&mut reader, &mut writer)
            });
        }
    });
}

/// Asks question number `n`; true if it was answered.
pub type Ask = Box<dyn FnMut(u64) -> bool + Send>;

/// A datagram that is sent back.
pub fn by_udp(ip: IpAddr) -> Ask {
    by_udp_within(WAIT, ip)
}

/// The same where every question counts: it waits so long that only a datagram which was dropped has no answer.
pub fn by_udp_patiently(ip: IpAddr) -> Ask {
    by_udp_within(PATIENCE, ip)
}

fn by_udp_within(patience: Duration, ip: IpAddr) -> Ask {
    let socket = UdpSocket::bind(if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("a socket");
    let to = SocketAddr::new(ip, PORT);
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    Box::new(move |n| {
        // A local client is refused by the guard at once.
        if socket.send_to(&n.to_be_bytes(), to).is_err() {
            return false;
        }
        let mut answer = [0; 8];
        while let Ok((8, _)) = socket.recv_from(&mut answer) {
            if answer == n.to_be_bytes() {
                return true;
            }
        }
        false
    })
}

/// Bytes on a connection that was there before.
pub fn by_established_tcp(ip: IpAddr) -> Ask {
    let mut stream = TcpStream::connect((ip, PORT)).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    stream.set_read_timeout(Some(WAIT)).expect("a timeout");
    let mut buffer: Vec<u8> = Vec::new();
    Box::new(move |n| {
        if stream.write_all(&n.to_be_bytes()).is_err() {
            return false;
        }
        loop {
            // Answers to earlier questions come first.
            while let Some(answer) = buffer.first_chunk::<8>().copied() {
                buffer.drain(..8);
                if answer == n.to_be_bytes() {
                    return true;
                }
            }
            let mut bytes = [0; 64];
            match stream.read(&mut bytes) {
                Ok(length) if length > 0 => buffer.extend(&bytes[..length]),
                Ok(_) | Err(_) => return false,
            }
        }
    })
}

/// A new connection.
pub fn by_new_tcp(ip: IpAddr) -> Ask {
    Box::new(move |_| TcpStream::connect_timeout(&SocketAddr::new(ip, PORT), WAIT).is_ok())
}

/// "Who has this address?" on the link, by ARP or neighbour discovery.
pub fn by_neighbour(ip: IpAddr) -> Ask {
    by_neighbour_on(DEVICE, ip)
}

/// The same on another interface.
pub fn by_neighbour_on(device: &str, ip: IpAddr) -> Ask {
    let link = Route::open().expect("a route socket").link(device).expect("links").expect("the interface");
    let mac = Mac(link.mac[..].try_into().expect("an Ethernet address"));
    let tap = Tap::open(link.index, mac, ip, Hears::BeforeTheGuard).expect("a tap");
    Box::new(move |_| {
        while let Ok(Some(_)) = tap.claimant(64, |_| false) {}
        tap.probe().expect("the link takes a probe");
        let mut fds = [PollFd::new(tap.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, u16::try_from(WAIT.as_millis()).expect("short")).expect("poll");
        matches!(tap.claimant(64, |_| false), Ok(Some(_)))
    })
}

/// Every question asked: when, and whether it was answered.
pub struct Asked {
    pub way: &'static str,
    pub questions: Vec<(HolderTime, bool)>,
}

impl Asked {
    pub fn answered(&self, from: HolderTime, to: HolderTime) -> usize {
        self.questions.iter().filter(|(sent, yes)| *yes && (from..to).contains(sent)).count()
    }

    pub fn sent(&self, from: HolderTime, to: HolderTime) -> usize {
        self.questions.iter().filter(|(sent, _)| (from..to).contains(sent)).count()
    }

    pub fn last_answered(&self) -> Option<HolderTime> {
        self.questions.iter().rev().find(|(_, yes)| *yes).map(|(sent, _)| *sent)
    }
}

/// Someone who goes on asking in the background, in the namespace of the thread that starts it.
pub struct Asker {
    stop: mpsc::Sender<()>,
    thread: thread::JoinHandle<Asked>,
}

impl Asker {
    pub fn start(way: &'static str, mut ask: Ask) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut questions = Vec::new();
            for n in 0.. {
                let sent = now();
                questions.push((sent, ask(n)));
                // A pause between questions, ended early by `finish`.
                if stopped.recv_timeout(Duration::from_millis(2)) != Err(mpsc::RecvTimeoutError::Timeout) {
                    break;
                }
            }
            Asked { way, questions }
        });
        Self { stop, thread }
    }

    pub fn finish(self) -> Asked {
        drop(self.stop);
        self.thread.join().expect("the asker did not panic")
    }
}
