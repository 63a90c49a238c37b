//! What comes over real connections: TLS, and WebSockets on it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_util::sync::CancellationToken;

use crate::harness::{MAPS, Server};

/// A connection of the cluster's administrator.
async fn admin(server: &Server, address: std::net::SocketAddr) -> TlsStream<TcpStream> {
    let credential = server.pki.admin().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.pki.ca_der().unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(credential.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(credential.key.as_bytes()).unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), tcp).await.unwrap()
}

#[tokio::test]
async fn a_watch_over_a_websocket_has_an_event_in_each_message() {
    let server = Server::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = CancellationToken::new();
    let tls = server.pki.server_config().unwrap();
    let talk = async {
        server.config_map("a", "{}").await;
        let request = format!("ws://localhost{MAPS}?watch=1").into_client_request().unwrap();
        let stream = admin(&server, address).await;
        let (mut socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(answer.status(), 101);
        let first = event(&mut socket).await;
        assert_eq!(
            (first["type"].as_str(), first["object"]["metadata"]["name"].as_str()),
            (Some("ADDED"), Some("a"))
        );
        server.config_map("b", "{}").await;
        assert_eq!(event(&mut socket).await["object"]["metadata"]["name"], "b");

        // What is refused is refused before the upgrade.
        let request = "ws://localhost/api/v1/nothing?watch=1".into_client_request().unwrap();
        let refused =
            tokio_tungstenite::client_async(request, admin(&server, address).await).await.unwrap_err();
        assert!(
            matches!(&refused, tokio_tungstenite::tungstenite::Error::Http(it) if it.status() == 404),
            "{refused}"
        );
    };
    tokio::select! {
        () = server.api.serve(listener, tls, token.clone()) => panic!("the server ended"),
        done = tokio::time::timeout(Duration::from_secs(20), talk) => done.unwrap(),
    }
    // An open socket does not hold the server up.
    tokio::time::timeout(Duration::from_secs(20), server.api.shutdown()).await.unwrap();
}

async fn event<S>(socket: &mut tokio_tungstenite::WebSocketStream<S>) -> serde_json::Value
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    match socket.next().await.unwrap().unwrap() {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}
