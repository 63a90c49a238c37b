//! The API server alone on a loopback port, for trying it with kubectl: `apiserver FOLDER PORT`.

use std::path::PathBuf;
use std::sync::Arc;

use coracle_api::auth::{AnonymousPolicy, Pki, PkiOptions};
use coracle_api::{ApiConfig, ApiServer};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("which folder?")?);
    let port: u16 = arguments.next().ok_or("which port?")?.parse()?;
    std::fs::create_dir_all(&folder)?;
    let pki = Pki::open(
        &folder.join("pki"),
        &PkiOptions { cluster_domain: "cluster.local".to_owned(), ..PkiOptions::default() },
    )?;
    let server_url = format!("https://127.0.0.1:{port}");
    pki.write_kubeconfig(&folder.join("kubeconfig"), &server_url, "admin", &pki.admin()?)?;
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let store = coracle_store::Sqlite::open(folder.join("store.db"), coracle_store::Options::default())?;
    let server = ApiServer::new(ApiConfig {
        store: Arc::new(store),
        client_certificates: pki.client_verifier()?,
        tokens: Arc::new(pki.token_authority(issuer, vec![issuer.to_owned()])?),
        anonymous: AnonymousPolicy::default(),
        service_cidrs: vec!["10.96.0.0/16".parse()?],
        cluster_domain: "cluster.local".to_owned(),
        advertise: format!("127.0.0.1:{port}").parse()?,
        connect: None,
    })
    .await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let token = CancellationToken::new();
    let stop = token.clone();
    let serving = server.serve(listener, pki.server_config()?, token);
    tokio::select! {
        () = serving => {}
        _ = tokio::signal::ctrl_c() => stop.cancel(),
    }
    server.shutdown().await;
    Ok(())
}
