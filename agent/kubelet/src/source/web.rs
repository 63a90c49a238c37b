//! Static pods from a URL, asked for at a fixed pace.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use kube::client::Body;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::files::Found;
use super::manifest::{self, Origin};
use crate::{pod, report};

/// No answer within this is no answer: upstream's client has the same.
const LIMIT: Duration = Duration::from_secs(10);
/// A page of manifests is no bigger than this.
const LARGEST: usize = 10 << 20;

/// Where the manifests are.
#[derive(Debug, Clone)]
pub(super) struct Page {
    /// `http` or `https`; certificates are checked against the machine's own roots.
    pub url: String,
    /// Sent with every request.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The node's name.
    pub node: String,
}

/// Sends what the page has when that changes. While there is no good answer the last good one stands.
pub(super) async fn watch(
    page: Page,
    period: Duration,
    found: mpsc::Sender<(Origin, Found)>,
    token: CancellationToken,
) {
    let mut last: Option<Found> = None;
    let mut failed = String::new();
    loop {
        let asked = async {
            tokio::time::timeout(LIMIT, fetch(&page))
                .await
                .unwrap_or_else(|_| Err("no answer in time".into()))
        };
        let Some(answer) = token.run_until_cancelled(asked).await else { return };
        match answer {
            Ok(now) => {
                failed.clear();
                if !last.as_ref().is_some_and(|it| it.keys().eq(now.keys())) {
                    last = Some(now.clone());
                    if found.send((Origin::Web, now)).await.is_err() {
                        return;
                    }
                }
            }
            Err(why) => {
                // The same failure again is no news.
                if why != failed {
                    tracing::warn!(url = page.url, error = why, "cannot read static pods");
                }
                failed = why;
            }
        }
        // Only waits.
        if token.run_until_cancelled(tokio::time::sleep(period)).await.is_none() {
            return;
        }
    }
}

async fn fetch(page: &Page) -> Result<Found, String> {
    let uri: http::Uri = page.url.parse().map_err(|err: http::uri::InvalidUri| err.to_string())?;
    let path = uri.path_and_query().map_or("/", |it| it.as_str()).to_owned();
    let mut base = uri.into_parts();
    base.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    let base = http::Uri::from_parts(base).map_err(|err| err.to_string())?;
    let mut config = kube::Config::new(base);
    config.connect_timeout = Some(LIMIT);
    config.default_retry = false;
    let client = kube::Client::try_from(config).map_err(|err| report(&err))?;
    let mut request = Request::get(path);
    for (name, values) in &page.headers {
        for value in values {
            request = request.header(name, value);
        }
    }
    let request = request.body(Body::empty()).map_err(|err| err.to_string())?;
    let answer = client.send(request).await.map_err(|err| report(&err))?;
    if answer.status() != http::StatusCode::OK {
        return Err(format!("status {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|err| err.to_string())?;
    let body = body.to_bytes();
    if body.is_empty() {
        return Err("zero-length data received".to_owned());
    }
    let pods =
        manifest::parse_all(&String::from_utf8_lossy(&body), Origin::Web, &page.node, Timestamp::now());
    Ok(pods.map_err(|err| err.to_string())?.into_iter().map(|it| (pod::uid(&it).to_owned(), it)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server that answers every request with what `page` holds, and refuses those without the header.
    async fn serve(page: Arc<Mutex<String>>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/pods?of=us", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let count = tcp.read(&mut request).await.unwrap();
                let head = String::from_utf8_lossy(&request[..count]).to_lowercase();
                let good = head.starts_with("get /pods?of=us ")
                    && head.contains("x-who: a")
                    && head.contains("x-who: b");
                let body = page.lock().unwrap().clone();
                let status = if good { "200 OK" } else { "403 Forbidden" };
                let text = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                tcp.write_all(text.as_bytes()).await.unwrap();
            }
        });
        url
    }

    #[tokio::test]
    async fn a_page_that_changes_and_fails() {
        let pod = |name: &str| {
            format!("metadata: {{name: {name}}}\nspec: {{containers: [{{name: a, image: b}}]}}\n")
        };
        let text = Arc::new(Mutex::new(pod("web")));
        let url = serve(text.clone()).await;
        let headers = BTreeMap::from([("X-Who".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        let page = Page { url, headers, node: "n".into() };
        let (sender, mut found) = mpsc::channel(1);
        let token = CancellationToken::new();
        let watching = watch(page, Duration::from_millis(20), sender, token.clone());
        let checks = async {
            let keys = |it: (Origin, Found)| it.1.values().map(pod::key).collect::<Vec<_>>();
            assert_eq!(keys(found.recv().await.unwrap()), ["default/web-n"]);
            // An empty answer is a failure: what was there stays.
            text.lock().unwrap().clear();
            let silent = tokio::time::timeout(Duration::from_millis(200), found.recv()).await;
            assert!(silent.is_err(), "a failure was taken for an empty page");
            *text.lock().unwrap() = pod("other");
            assert_eq!(keys(found.recv().await.unwrap()), ["default/other-n"]);
            token.cancel();
        };
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(watching, checks) })
            .await
            .unwrap();
    }
}
