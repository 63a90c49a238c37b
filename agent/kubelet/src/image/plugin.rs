//! Exec credential providers: programs that are asked who to pull an image as.

use std::collections::{BTreeMap, HashMap};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coracle_apimachinery::GoDuration;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::keyring::{Credential, matches};
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
    #[error("{program} answered with {what}")]
    Wrong { program: String, what: String },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    api_version: &'a str,
    kind: &'a str,
    image: &'a str,
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

    /// What they say about a repository. One that fails has nothing to say.
    pub(super) async fn credentials(&self, repository: &str) -> Vec<Credential> {
        let mut all = Vec::new();
        for plugin in &self.0 {
            if !plugin.provider.match_images.iter().any(|it| matches(it, repository)) {
                continue;
            }
            match plugin.credentials(repository).await {
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
    async fn credentials(&self, repository: &str) -> Result<Vec<Credential>, PluginError> {
        if let Some(known) = self.known(repository) {
            return Ok(known);
        }
        let _turn = self.turn.lock().await;
        if let Some(known) = self.known(repository) {
            return Ok(known);
        }
        let answer = self.ask(repository).await?;
        let (key, good_for, found) = self.understand(repository, answer)?;
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

    fn known(&self, repository: &str) -> Option<Vec<Credential>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let found = [repository, registry(repository), GLOBAL].into_iter().find_map(|it| answers.get(it))?;
        (found.0 > Instant::now()).then(|| found.1.clone())
    }

    async fn ask(&self, repository: &str) -> Result<Answer, PluginError> {
        let program = self.provider.program.display().to_string();
        let question = Question {
            api_version: &self.provider.api_version,
            kind: "CredentialProviderRequest",
            image: repository,
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
            plugins.credentials(image).await;
        }
        std::fs::read_to_string(asked).unwrap_or_default().lines().count()
    }

    #[tokio::test]
    async fn a_program_is_asked_with_its_arguments_and_environment() {
        let folder = tempfile::tempdir().unwrap();
        let asked = folder.path().join("asked");
        let script = format!("cat > {}; echo '{}'", asked.display(), answer("Image", ""));
        let plugins = Plugins::new(&[provider(folder.path(), &script)]);
        let found = plugins.credentials("reg.example/a").await;
        let auth = found[0].auth();
        assert_eq!(
            (found[0].key.as_str(), &*auth.username, &*auth.password),
            ("*.example", "--arg", "sesame")
        );
        let question: serde_json::Value = serde_json::from_slice(&std::fs::read(asked).unwrap()).unwrap();
        let want = serde_json::json!({
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderRequest", "image": "reg.example/a"});
        assert_eq!(question, want);
        assert!(plugins.credentials("other.test/a").await.is_empty());
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
            assert!(plugins.credentials("reg.example/a").await.is_empty(), "{script}");
        }
    }
}
