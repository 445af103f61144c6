//! Whether a member of some cluster is at an address: a machine that answers is not off, whatever is said of it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tls;

/// How long each step of an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Whether a connection is taken there, by anybody but a node in no cluster that waits for an invitation. One that is
/// refused proves nothing: a node that has left its cluster does so.
pub async fn answers(address: SocketAddr) -> bool {
    let Ok(Ok(stream)) = timeout(ANSWER_WITHIN, TcpStream::connect(address)).await else { return false };
    !timeout(ANSWER_WITHIN, tls::is_in_no_cluster(stream)).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[tokio::test]
    async fn whoever_takes_a_connection_answers_but_a_node_that_waits_to_be_invited() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closes = async { drop(listener.accept().await.unwrap()) };
        assert!(tokio::join!(answers(address), closes).0, "something else");
        let waits = async {
            let (stream, _) = listener.accept().await.unwrap();
            let _refused = TlsAcceptor::from(tls::introduction_server().unwrap()).accept(stream).await;
        };
        assert!(!tokio::join!(answers(address), waits).0, "it is in no cluster");
        drop(listener);
        assert!(!answers(address).await, "nobody is there");
    }
}
