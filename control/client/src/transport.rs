//! Ways to reach an API server: TLS as a kubeconfig says, or straight into a router in this process.

use http::HeaderValue;
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tower::{BoxError, Service};

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The kubeconfig can't be read or lacks something.
    #[error("read kubeconfig {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// The TLS or authentication layers can't be made of it.
    #[error("make a client from kubeconfig {path}")]
    Build {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// The user agent has bytes that no header may hold.
    #[error("user agent {0:?} is no header value")]
    UserAgent(String),
}

/// A client that calls `service` directly: no socket, no TLS, the same requests.
///
/// Paths arrive as `/api/...` without scheme and host. Must be called inside a tokio runtime.
pub fn in_process<S, B>(service: S) -> kube::Client
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    kube::Client::new(service, "default")
}

/// A client for the current context of a kubeconfig file: CA, client certificate or token, inline or by file.
///
/// # Errors
/// When the file can't be read, names what it does not define, or holds keys that don't parse.
pub async fn from_kubeconfig(
    path: impl AsRef<Path>,
    user_agent: &str,
) -> Result<kube::Client, TransportError> {
    let path = path.as_ref();
    build(path, read(path)?, user_agent).await
}

/// As [`from_kubeconfig`], but with the certificate and key in the file `identity` instead of the user's credentials.
///
/// # Errors
/// As [`from_kubeconfig`].
pub async fn from_kubeconfig_as(
    path: impl AsRef<Path>,
    identity: &Path,
    user_agent: &str,
) -> Result<kube::Client, TransportError> {
    let path = path.as_ref();
    let mut kubeconfig = read(path)?;
    let file = identity.to_string_lossy().into_owned();
    for user in &mut kubeconfig.auth_infos {
        user.auth_info = Some(AuthInfo {
            client_certificate: Some(file.clone()),
            client_key: Some(file.clone()),
            ..AuthInfo::default()
        });
    }
    build(path, kubeconfig, user_agent).await
}

fn read(path: &Path) -> Result<Kubeconfig, TransportError> {
    Kubeconfig::read_from(path).map_err(|source| TransportError::Kubeconfig { path: path.to_owned(), source })
}

async fn build(
    path: &Path,
    kubeconfig: Kubeconfig,
    user_agent: &str,
) -> Result<kube::Client, TransportError> {
    let at = |source| TransportError::Kubeconfig { path: path.to_owned(), source };
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(at)?;
    let agent =
        HeaderValue::from_str(user_agent).map_err(|_| TransportError::UserAgent(user_agent.to_owned()))?;
    config.headers.push((http::header::USER_AGENT, agent));
    config.connect_timeout = Some(Duration::from_secs(10));
    // Retries are decided by those who call: they know what may be done twice.
    config.default_retry = false;
    kube::Client::try_from(config)
        .map_err(|source| TransportError::Build { path: path.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::Full;

    #[tokio::test]
    async fn in_process_passes_path_and_body() {
        let client = in_process(tower::service_fn(|req: http::Request<Body>| async move {
            let text = format!(r#"{{"path":"{}"}}"#, req.uri());
            Ok::<_, BoxError>(http::Response::new(Full::new(Bytes::from(text))))
        }));
        let got: serde_json::Value =
            client.request(http::Request::get("/api/v1").body(vec![]).unwrap()).await.unwrap();
        assert_eq!(got["path"], "/api/v1");
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let err = from_kubeconfig("/nonexistent/config", "x").await.err().unwrap();
        assert_eq!(err.to_string(), "read kubeconfig /nonexistent/config");
    }
}
