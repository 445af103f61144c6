//! The proofs that a joiner's ports work: what the member sends, and what the joiner's ports answer until it is in.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{PROBE_BYTES, PROOF_TIME_MAX, answer_to, probe};
use crate::engine::Nonce;
use crate::net::datagram;
use crate::net::{random, sockets};

/// Datagrams are repeated this often until they are answered.
pub(super) const REPEAT_EVERY: Duration = Duration::from_millis(100);
/// How long one connection to a joiner's tcp port may hold it.
const PROBED_TIME_MAX: Duration = Duration::from_secs(2);

/// From the member: does the joiner's tcp port answer, and is it this joiner?
pub(super) async fn prove_tcp(from: IpAddr, to: SocketAddr, proof: Nonce) -> Result<(), String> {
    let probe = probe(random::nonce());
    let work = async {
        let mut stream = sockets::connect(Some(from), to).await?;
        stream.write_all(&probe).await?;
        let mut answer = [0; PROBE_BYTES];
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    match timeout(PROOF_TIME_MAX, work).await {
        Ok(Ok(answer)) if answer_to(&probe, proof) == Some(answer) => Ok(()),
        Ok(Ok(_)) => Err("something else answers there".into()),
        Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Err("something else answers there".into()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no answer within {PROOF_TIME_MAX:?}")),
    }
}

/// From the member: does the joiner's udp port answer, and is it this joiner?
pub(super) async fn prove_udp(from: IpAddr, to: SocketAddr, proof: Nonce) -> Result<(), String> {
    let probe = probe(random::nonce());
    let work = async {
        let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await?;
        socket.connect(to).await?;
        let mut buffer = [0; PROBE_BYTES + 1];
        let mut repeat = interval(REPEAT_EVERY);
        repeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            repeat.tick().await;
            // A refusal by ICMP shows up as an error of a later call; the port may still be about to open.
            let _ = socket.send(&probe).await;
            if let Ok(Ok(n)) = timeout(REPEAT_EVERY, socket.recv(&mut buffer)).await
                && answer_to(&probe, proof).is_some_and(|expected| expected == buffer[..n])
            {
                return Ok::<_, io::Error>(());
            }
        }
    };
    match timeout(PROOF_TIME_MAX, work).await {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {PROOF_TIME_MAX:?}")),
    }
}

/// On the joiner: answers probes of its tcp port for as long as it is polled. One connection at a time is enough for
/// one member, and bounds what anybody else can do.
pub(super) async fn answer_tcp(listener: &TcpListener, proof: Nonce) -> io::Error {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A connection that is no probe is simply dropped.
                let _ = timeout(PROBED_TIME_MAX, answer_one(stream, proof)).await;
            }
            Err(e) => return e,
        }
    }
}

async fn answer_one(mut stream: TcpStream, proof: Nonce) -> io::Result<()> {
    let mut probe = [0; PROBE_BYTES];
    stream.read_exact(&mut probe).await?;
    if let Some(answer) = answer_to(&probe, proof) {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
    }
    Ok(())
}

/// On the joiner: answers probes of its udp port for as long as it is polled, until something else comes from
/// `keeper`: its answer to the sealed ping.
pub(super) async fn answer_udp(socket: &UdpSocket, proof: Nonce, keeper: Option<SocketAddr>) -> io::Result<Vec<u8>> {
    let mut buffer = [0; datagram::MAX_BYTES + 1];
    loop {
        let (n, from) = match socket.recv_from(&mut buffer).await {
            Ok(got) => got,
            // ICMP's word on an earlier datagram of ours; says nothing about this socket.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(e) => return Err(e),
        };
        if let Some(answer) = answer_to(&buffer[..n], proof) {
            let _ = socket.send_to(&answer, from).await;
        } else if keeper.is_some_and(|keeper| keeper == from) {
            return Ok(buffer[..n].to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn only_this_joiner_can_answer_for_its_ports() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (tcp, udp) = (listener.local_addr().unwrap(), socket.local_addr().unwrap());
        let proving = async {
            assert_eq!(prove_tcp(LOOPBACK, tcp, Nonce(1)).await, Ok(()));
            assert_eq!(prove_udp(LOOPBACK, udp, Nonce(1)).await, Ok(()));
            let stranger = prove_tcp(LOOPBACK, tcp, Nonce(2)).await;
            assert_eq!(stranger, Err("something else answers there".into()));
            let stranger = prove_udp(LOOPBACK, udp, Nonce(2)).await;
            assert!(stranger.unwrap_err().contains("no answer within"));
        };
        tokio::select! {
            () = proving => {}
            e = answer_tcp(&listener, Nonce(1)) => panic!("{e}"),
            end = answer_udp(&socket, Nonce(1), None) => panic!("{end:?}"),
        }
    }

    #[tokio::test]
    async fn a_service_that_hangs_up_is_no_joiner() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hang_up = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut probe = [0; PROBE_BYTES];
            stream.read_exact(&mut probe).await.unwrap();
        };
        let (proved, ()) = tokio::join!(prove_tcp(LOOPBACK, address, Nonce(1)), hang_up);
        assert_eq!(proved, Err("something else answers there".into()));
    }
}
