//! `coracle token`: what lets machines join. Tokens are Secrets of `kube-system`, as kubeadm's are.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use coracle_apimachinery::{GoDuration, duration};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};

use crate::join::token::{BootstrapToken, CaHash, JoinToken};

const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group that may join nodes; kubeadm's, so that its tokens and ours do the same.
pub const NODE_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
const USAGE: &str = "usage-bootstrap-";

/// A token to be made.
#[derive(Debug, Clone, clap::Args)]
pub struct Create {
    /// How long it lets machines in; 0 for ever.
    #[arg(long, default_value = "24h")]
    pub ttl: String,
    /// What it may be used for.
    #[arg(long, value_delimiter = ',', default_value = "signing,authentication")]
    pub usages: Vec<String>,
    /// Groups of whoever shows it.
    #[arg(long, value_delimiter = ',', default_value = NODE_GROUP)]
    pub groups: Vec<String>,
    /// For people.
    #[arg(long, default_value = "")]
    pub description: String,
    /// The token itself, when it should not be made up: 6 characters, a dot, 16 characters.
    pub token: Option<String>,
}

fn secrets(client: Client) -> Api<Secret> {
    Api::namespaced(client, NAMESPACE)
}

/// Makes a token; gives it as a person carries it, with the hash of the CA that `kubeconfig` trusts.
pub async fn create(client: Client, kubeconfig: &Path, create: Create) -> Result<JoinToken> {
    let token: BootstrapToken = match &create.token {
        Some(text) => text.parse()?,
        None => BootstrapToken::generate().ok().context("no random numbers")?,
    };
    let ca = ca_hash(kubeconfig)?;
    let secret = secret(&token, &create, Timestamp::now())?;
    match secrets(client).create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(JoinToken { ca: Some(ca), token }),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            bail!("there is a token {} already", token.id)
        }
        Err(error) => Err(error).context("create the token's secret"),
    }
}

fn secret(token: &BootstrapToken, create: &Create, now: Timestamp) -> Result<Secret> {
    let ttl = if create.ttl == "0" { GoDuration::from_secs(0) } else { GoDuration::parse(&create.ttl)? };
    if ttl.nanos() < 0 {
        bail!("--ttl {}: cannot be negative", create.ttl);
    }
    let mut data = BTreeMap::from([
        ("token-id".to_owned(), token.id.clone()),
        ("token-secret".to_owned(), token.secret.clone()),
    ]);
    if ttl.nanos() > 0 {
        let seconds = (ttl.nanos() / 1_000_000_000).max(1);
        let end = now.as_second().saturating_add(seconds);
        data.insert("expiration".to_owned(), Timestamp::from_second(end)?.to_string());
    }
    for usage in &create.usages {
        if usage != "signing" && usage != "authentication" {
            bail!("--usages {usage}: must be signing or authentication");
        }
        data.insert(format!("{USAGE}{usage}"), "true".to_owned());
    }
    for group in &create.groups {
        if !group.starts_with("system:bootstrappers:") {
            bail!("--groups {group}: must begin with system:bootstrappers:");
        }
    }
    if !create.groups.is_empty() {
        data.insert("auth-extra-groups".to_owned(), create.groups.join(","));
    }
    if !create.description.is_empty() {
        data.insert("description".to_owned(), create.description.clone());
    }
    let mut secret = Secret { type_: Some(TYPE.to_owned()), string_data: Some(data), ..Secret::default() };
    secret.metadata.name = Some(format!("{PREFIX}{}", token.id));
    Ok(secret)
}

/// The hash of the CA that a kubeconfig's cluster is known by.
fn ca_hash(path: &Path) -> Result<CaHash> {
    use base64::Engine;
    let of = || format!("find the cluster's CA in {}", path.display());
    let config = Kubeconfig::read_from(path).with_context(of)?;
    let context = config.contexts.iter().find(|it| Some(&it.name) == config.current_context.as_ref());
    let name = context.and_then(|it| Some(it.context.as_ref()?.cluster.clone()));
    let cluster = config.clusters.iter().find(|it| name.as_ref().is_none_or(|name| *name == it.name));
    let cluster = cluster.and_then(|it| it.cluster.as_ref()).with_context(of)?;
    let pem = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) => base64::engine::general_purpose::STANDARD.decode(data).with_context(of)?,
        (None, Some(file)) => std::fs::read(file).with_context(of)?,
        (None, None) => bail!("{} names no CA", path.display()),
    };
    CaHash::of_pem(&pem).with_context(of)
}

/// All tokens, as a table. Their secrets are not shown.
pub async fn list(client: Client) -> Result<String> {
    let params = ListParams::default().fields(&format!("type={TYPE}"));
    let tokens = secrets(client).list(&params).await.context("list the tokens' secrets")?;
    Ok(table(&tokens.items, Timestamp::now()))
}

fn table(tokens: &[Secret], now: Timestamp) -> String {
    let mut rows = vec![["ID", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "GROUPS"].map(str::to_owned)];
    for secret in tokens {
        let data = |key: &str| {
            let value: Option<&ByteString> = secret.data.as_ref().and_then(|it| it.get(key));
            value.map(|it| String::from_utf8_lossy(&it.0).into_owned())
        };
        let expires = data("expiration");
        let ttl = match expires.as_deref().map(str::parse::<Timestamp>) {
            None => "<forever>".to_owned(),
            Some(Ok(at)) if at > now => human(at.duration_since(now)),
            Some(_) => "<expired>".to_owned(),
        };
        let usages = ["authentication", "signing"]
            .into_iter()
            .filter(|it| data(&format!("{USAGE}{it}")).as_deref() == Some("true"));
        let or_none = |text: Option<String>| text.filter(|it| !it.is_empty()).unwrap_or("<none>".to_owned());
        rows.push([
            data("token-id").unwrap_or_default(),
            ttl,
            expires.unwrap_or_else(|| "<never>".to_owned()),
            or_none(Some(usages.collect::<Vec<_>>().join(","))),
            or_none(data("description")),
            or_none(data("auth-extra-groups")),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn human(time: SignedDuration) -> String {
    duration::human(time.as_secs())
}

/// Deletes tokens by their ids, or by themselves as they were printed.
pub async fn delete(client: Client, tokens: &[String]) -> Result<Vec<String>> {
    let api = secrets(client);
    let mut deleted = Vec::new();
    for text in tokens {
        let id = match text.parse::<JoinToken>() {
            Ok(whole) => whole.token.id,
            Err(_) => text.clone(),
        };
        match api.delete(&format!("{PREFIX}{id}"), &DeleteParams::default()).await {
            Ok(_) => deleted.push(id),
            Err(kube::Error::Api(status)) if status.code == 404 => bail!("there is no token {id}"),
            Err(error) => return Err(error).with_context(|| format!("delete token {id}")),
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(change: impl FnOnce(&mut Create)) -> Create {
        let mut create = Create {
            ttl: "1h30m".into(),
            usages: vec!["signing".into(), "authentication".into()],
            groups: vec![NODE_GROUP.into()],
            description: String::new(),
            token: None,
        };
        change(&mut create);
        create
    }

    #[test]
    fn a_token_becomes_a_secret() {
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let made = secret(&token, &wish(|_| {}), now).unwrap();
        let data = made.string_data.unwrap();
        assert_eq!(made.metadata.name.as_deref(), Some("bootstrap-token-abcdef"));
        assert_eq!(data["expiration"], "2026-01-01T01:30:00Z");
        assert_eq!(data["usage-bootstrap-authentication"], "true");
        assert_eq!(data["auth-extra-groups"], NODE_GROUP);
        let ever = secret(&token, &wish(|it| it.ttl = "0".into()), now).unwrap();
        assert!(!ever.string_data.unwrap().contains_key("expiration"));
        type Change = fn(&mut Create);
        let wrong: [(Change, &str); 3] = [
            (|it| it.ttl = "-1h".into(), "negative"),
            (|it| it.usages = vec!["fun".into()], "--usages fun"),
            (|it| it.groups = vec!["system:masters".into()], "--groups system:masters"),
        ];
        for (change, expected) in wrong {
            let text = secret(&token, &wish(change), now).err().unwrap().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn the_list_shows_no_secrets() {
        let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut made = secret(&token, &wish(|it| it.description = "rack 7".into()), now).unwrap();
        let text = made.string_data.take().unwrap();
        made.data =
            Some(text.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect());
        let table = table(&[made], now);
        assert!(table.contains("abcdef   90m") && table.contains("rack 7"), "{table}");
        assert!(!table.contains("0123456789abcdef"), "{table}");
    }
}
