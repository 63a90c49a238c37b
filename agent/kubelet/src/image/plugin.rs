//! Exec credential providers: programs that are asked who to pull an image as.

use std::collections::{BTreeMap, HashMap};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coracle_apimachinery::GoDuration;
use k8s_openapi::api::core::v1::Pod;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::accounts::{AccountRef, Accounts, account_name};
use super::keyring::{Credential, Source, hex, matches};
use crate::config::CredentialProvider;

/// A program that has not answered by then is ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer that is read.
const LONGEST: u64 = 1 << 20;
/// Answers kept for each program.
const KEPT: usize = 512;
/// The key of answers for every image.
const GLOBAL: &str = "global";

/// Why a program's answer is of no use.
#[derive(Debug, thiserror::Error)]
enum PluginError {
    #[error("run {0}")]
    Run(String, #[source] std::io::Error),
    #[error("{0} did not answer within 60s")]
    Late(String),
    #[error("{program} ended with {status}: {stderr}")]
    Failed { program: String, status: std::process::ExitStatus, stderr: String },
    #[error("read the answer of {0}")]
    Answer(String, #[source] serde_json::Error),
    #[error("ask {0} in the name of the pod's service account: {1}")]
    Account(String, String),
    #[error("{program} answered with {what}")]
    Wrong { program: String, what: String },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    api_version: &'a str,
    kind: &'a str,
    image: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    service_account_token: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    service_account_annotations: &'a BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    cache_key_type: String,
    cache_duration: Option<String>,
    auth: Option<BTreeMap<String, Login>>,
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// In whose name a program is asked.
#[derive(Default)]
struct Asker {
    /// Nobody's: for any pod.
    account: Option<AccountRef>,
    token: String,
    annotations: BTreeMap<String, String>,
    /// Put before the keys of answers that are for this one alone.
    scope: String,
}

/// All plugins of this node.
#[derive(Default)]
pub struct Plugins(Vec<Plugin>);

struct Plugin {
    provider: CredentialProvider,
    answers: Mutex<HashMap<String, (Instant, Vec<Credential>)>>,
    /// One question at a time: the next one may be answered by then.
    turn: tokio::sync::Mutex<()>,
}

impl Plugins {
    /// These.
    pub fn new(providers: &[CredentialProvider]) -> Self {
        let plugin = |provider: &CredentialProvider| Plugin {
            provider: provider.clone(),
            answers: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        };
        Self(providers.iter().map(plugin).collect())
    }

    /// What they say about a repository to a pod. One that fails has nothing to say.
    pub(super) async fn credentials(
        &self,
        repository: &str,
        pod: &Pod,
        accounts: &dyn Accounts,
    ) -> Vec<Credential> {
        let mut all = Vec::new();
        for plugin in &self.0 {
            if !plugin.provider.match_images.iter().any(|it| matches(it, repository)) {
                continue;
            }
            match plugin.credentials(repository, pod, accounts).await {
                Ok(found) => all.extend(found),
                Err(err) => {
                    let error = crate::report(&err);
                    tracing::warn!(
                        plugin = plugin.provider.name,
                        image = repository,
                        error,
                        "no credentials"
                    );
                }
            }
        }
        all
    }
}

impl Plugin {
    async fn credentials(
        &self,
        repository: &str,
        pod: &Pod,
        accounts: &dyn Accounts,
    ) -> Result<Vec<Credential>, PluginError> {
        let Some(asker) = self.asker(pod, accounts).await? else { return Ok(Vec::new()) };
        if let Some(known) = self.known(&asker.scope, repository) {
            return Ok(known);
        }
        let _turn = self.turn.lock().await;
        if let Some(known) = self.known(&asker.scope, repository) {
            return Ok(known);
        }
        let answer = self.ask(repository, &asker).await?;
        let (key, good_for, mut found) = self.understand(repository, answer)?;
        if let Some(account) = asker.account {
            for credential in &mut found {
                credential.source = Source::Account(account.clone());
            }
        }
        let key = format!("{}{key}", asker.scope);
        if !good_for.is_zero() {
            let now = Instant::now();
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.retain(|_, (until, _)| *until > now);
            if answers.len() >= KEPT {
                answers.clear();
            }
            answers.insert(key, (now + good_for, found.clone()));
        }
        Ok(found)
    }

    /// In whose name to ask; none: not at all.
    async fn asker(&self, pod: &Pod, accounts: &dyn Accounts) -> Result<Option<Asker>, PluginError> {
        let Some(wanted) = &self.provider.token else { return Ok(Some(Asker::default())) };
        let failed = |why: String| PluginError::Account(self.provider.name.clone(), why);
        let Some(name) = account_name(pod) else {
            return Ok((!wanted.required).then(Asker::default));
        };
        let account = accounts.account(crate::pod::namespace(pod), name).await.map_err(failed)?;
        if let Some(key) =
            wanted.required_annotations.iter().find(|it| !account.annotations.contains_key(*it))
        {
            return Err(failed(format!("it has no annotation {key}")));
        }
        let token = accounts.token(pod, name, &wanted.audience).await.map_err(failed)?;
        let told = |key: &String| {
            wanted.required_annotations.contains(key) || wanted.optional_annotations.contains(key)
        };
        let annotations: BTreeMap<String, String> =
            account.annotations.into_iter().filter(|(key, _)| told(key)).collect();
        let of = &account.reference;
        let scope = match wanted.by_token {
            true => hex(digest(&SHA256, token.as_bytes()).as_ref()),
            false => format!("{}/{}/{} {annotations:?}", of.namespace, of.name, of.uid),
        };
        Ok(Some(Asker { scope: format!("{scope} "), account: Some(account.reference), token, annotations }))
    }

    fn known(&self, scope: &str, repository: &str) -> Option<Vec<Credential>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = [repository, registry(repository), GLOBAL];
        let found = keys.into_iter().find_map(|it| answers.get(&format!("{scope}{it}")))?;
        (found.0 > Instant::now()).then(|| found.1.clone())
    }

    async fn ask(&self, repository: &str, asker: &Asker) -> Result<Answer, PluginError> {
        let program = self.provider.program.display().to_string();
        let question = Question {
            api_version: &self.provider.api_version,
            kind: "CredentialProviderRequest",
            image: repository,
            service_account_token: &asker.token,
            service_account_annotations: &asker.annotations,
        };
        let question =
            serde_json::to_vec(&question).map_err(|it| PluginError::Answer(program.clone(), it))?;
        let asking = tokio::time::timeout(PATIENCE, self.run(&question));
        let (status, stdout, stderr) = match asking.await {
            Ok(ran) => ran.map_err(|it| PluginError::Run(program.clone(), it))?,
            Err(_) => return Err(PluginError::Late(program)),
        };
        if !status.success() {
            let stderr = String::from_utf8_lossy(&stderr).trim().chars().take(1000).collect();
            return Err(PluginError::Failed { program, status, stderr });
        }
        serde_json::from_slice(&stdout).map_err(|it| PluginError::Answer(program, it))
    }

    async fn run(&self, question: &[u8]) -> std::io::Result<(std::process::ExitStatus, Vec<u8>, Vec<u8>)> {
        let provider = &self.provider;
        let mut child = tokio::process::Command::new(&provider.program)
            .args(&provider.args)
            .envs(provider.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let ask = async {
            if let Some(mut stdin) = stdin {
                // One that does not want to hear the question may know the answer all the same.
                let _ = stdin.write_all(question).await;
            }
        };
        let ((), said, told, status) = tokio::join!(ask, read_all(stdout), read_all(stderr), child.wait());
        Ok((status?, said?, told?))
    }

    /// The key under which an answer is kept, how long, and what it says.
    fn understand(
        &self,
        repository: &str,
        answer: Answer,
    ) -> Result<(String, Duration, Vec<Credential>), PluginError> {
        let wrong = |what: String| PluginError::Wrong { program: self.provider.name.clone(), what };
        if (answer.api_version.as_str(), answer.kind.as_str())
            != (self.provider.api_version.as_str(), "CredentialProviderResponse")
        {
            return Err(wrong(format!("{} {}", answer.api_version, answer.kind)));
        }
        let key = match answer.cache_key_type.as_str() {
            "Image" => repository,
            "Registry" => registry(repository),
            "Global" => GLOBAL,
            other => return Err(wrong(format!("cacheKeyType {other:?}"))),
        };
        let good_for = match &answer.cache_duration {
            Some(text) => {
                GoDuration::parse(text).map_err(|_| wrong(format!("cacheDuration {text:?}")))?.as_duration()
            }
            None => self.provider.default_cache,
        };
        let logins = answer.auth.unwrap_or_default().into_iter();
        let found =
            logins.map(|(key, login)| Credential::new(&key, login.username, login.password)).collect();
        Ok((key.to_owned(), good_for, found))
    }
}

async fn read_all(from: Option<impl tokio::io::AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(from) = from {
        from.take(LONGEST).read_to_end(&mut all).await?;
    }
    Ok(all)
}

fn registry(repository: &str) -> &str {
    repository.split('/').next().unwrap_or(repository)
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;

    use crate::config::TokenAttributes;
    use crate::image::{Account, NoAccounts};
    use std::os::unix::fs::PermissionsExt;

    /// A provider whose program is this shell script.
    fn provider(folder: &std::path::Path, script: &str) -> CredentialProvider {
        let program = folder.join("provider");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        CredentialProvider {
            name: "provider".into(),
            program,
            match_images: vec!["*.example".into()],
            default_cache: Duration::from_secs(600),
            api_version: "credentialprovider.kubelet.k8s.io/v1".into(),
            args: vec!["--arg".into()],
            env: vec![("WORD".into(), "sesame".into())],
            token: None,
        }
    }

    fn answer(key_type: &str, extra: &str) -> String {
        format!(
            r#"{{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse","cacheKeyType":"{key_type}",{extra}
               "auth":{{"*.example":{{"username":"'$1'","password":"'$WORD'"}}}}}}"#
        )
    }

    /// How often the program ran for these images.
    async fn runs(key_type: &str, extra: &str, images: &[&str]) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let asked = folder.path().join("asked");
        let script = format!("cat >> {0}; echo >> {0}; echo '{1}'", asked.display(), answer(key_type, extra));
        let plugins = Plugins::new(&[provider(folder.path(), &script)]);
        for image in images {
            plugins.credentials(image, &Pod::default(), &NoAccounts).await;
        }
        std::fs::read_to_string(asked).unwrap_or_default().lines().count()
    }

    #[tokio::test]
    async fn a_program_is_asked_with_its_arguments_and_environment() {
        let folder = tempfile::tempdir().unwrap();
        let asked = folder.path().join("asked");
        let script = format!("cat > {}; echo '{}'", asked.display(), answer("Image", ""));
        let plugins = Plugins::new(&[provider(folder.path(), &script)]);
        let found = plugins.credentials("reg.example/a", &Pod::default(), &NoAccounts).await;
        let auth = found[0].auth();
        assert_eq!(
            (found[0].key.as_str(), &*auth.username, &*auth.password),
            ("*.example", "--arg", "sesame")
        );
        let question: serde_json::Value = serde_json::from_slice(&std::fs::read(asked).unwrap()).unwrap();
        let want = serde_json::json!({
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderRequest", "image": "reg.example/a"});
        assert_eq!(question, want);
        assert!(plugins.credentials("other.test/a", &Pod::default(), &NoAccounts).await.is_empty());
    }

    #[tokio::test]
    async fn answers_are_kept_as_they_say() {
        let images = ["a.example/x", "a.example/x", "a.example/y", "b.example/x"];
        assert_eq!(runs("Image", "", &images).await, 3);
        assert_eq!(runs("Registry", "", &images).await, 2);
        assert_eq!(runs("Global", "", &images).await, 1);
        assert_eq!(runs("Global", r#""cacheDuration":"0s","#, &images).await, 4);
        assert_eq!(runs("Nothing", "", &images).await, 4);
    }

    #[tokio::test]
    async fn one_that_fails_has_nothing_to_say() {
        let folder = tempfile::tempdir().unwrap();
        for script in ["exit 1", "echo nonsense", r#"echo '{"kind":"Other"}'"#, "kill -9 $$"] {
            let plugins = Plugins::new(&[provider(folder.path(), script)]);
            assert!(
                plugins.credentials("reg.example/a", &Pod::default(), &NoAccounts).await.is_empty(),
                "{script}"
            );
        }
    }

    /// One account, whose token is another one each time.
    #[derive(Default)]
    struct One(Mutex<u32>);

    #[async_trait]
    impl Accounts for One {
        async fn account(&self, namespace: &str, name: &str) -> Result<Account, String> {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            let annotations =
                [("role", "reader"), ("other", "x")].map(|(key, value)| (key.into(), value.into()));
            let reference = AccountRef { uid: "u".into(), namespace, name };
            Ok(Account { reference, annotations: annotations.into() })
        }

        async fn token(&self, _: &Pod, _: &str, audience: &str) -> Result<String, String> {
            let mut count = self.0.lock().unwrap();
            *count += 1;
            Ok(format!("{audience}-{count}"))
        }
    }

    fn pod(account: &str) -> Pod {
        let json = format!(
            r#"{{"metadata":{{"namespace":"n"}},"spec":{{"serviceAccountName":"{account}","containers":[]}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[tokio::test]
    async fn a_program_is_asked_in_the_name_of_the_pods_account() {
        let attributes = TokenAttributes {
            audience: "reg".into(),
            by_token: false,
            required: true,
            required_annotations: vec!["role".into()],
            optional_annotations: vec!["none".into()],
        };
        let check = async |attributes: TokenAttributes, accounts: &[&str], runs: usize| {
            let folder = tempfile::tempdir().unwrap();
            let asked = folder.path().join("asked");
            let script =
                format!("cat >> {0}; echo >> {0}; echo '{1}'", asked.display(), answer("Global", ""));
            let token = Some(attributes.clone());
            let plugins = Plugins::new(&[CredentialProvider { token, ..provider(folder.path(), &script) }]);
            let (one, mut found) = (One::default(), Vec::new());
            for account in accounts {
                found = plugins.credentials("reg.example/a", &pod(account), &one).await;
            }
            let asked = std::fs::read_to_string(asked).unwrap_or_default();
            assert_eq!(asked.lines().count(), runs, "{attributes:?} {accounts:?}");
            (asked, found)
        };
        let (asked, found) = check(attributes.clone(), &["puller", "puller"], 1).await;
        let question: serde_json::Value = serde_json::from_str(&asked).unwrap();
        assert_eq!(question["serviceAccountToken"], "reg-1");
        assert_eq!(question["serviceAccountAnnotations"], serde_json::json!({"role": "reader"}));
        let want = AccountRef { uid: "u".into(), namespace: "n".into(), name: "puller".into() };
        assert_eq!(found[0].source, Source::Account(want));
        check(attributes.clone(), &["puller", "other"], 2).await;
        check(attributes.clone(), &[""], 0).await;
        check(TokenAttributes { by_token: true, ..attributes.clone() }, &["puller", "puller"], 2).await;
        let lacking = TokenAttributes { required_annotations: vec!["none".into()], ..attributes.clone() };
        check(lacking, &["puller"], 0).await;
        let (asked, found) = check(TokenAttributes { required: false, ..attributes }, &["", ""], 1).await;
        assert!(!asked.contains("serviceAccount"), "{asked}");
        assert_eq!(found[0].source, Source::Node);
    }
}
