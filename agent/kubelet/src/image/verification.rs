//! Whether a pod may use an image that is there: imagePullCredentialsVerificationPolicy.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_cri::RuntimeHandle;

use super::accounts::AccountRef;
use super::keyring::{Credential, SecretRef, Source};
use super::name::repository;
use super::records::{Access, Records};
use crate::config::{CredentialPolicy, ImageSettings};

/// Secrets noted for one image; later ones pull it again, which is quick.
const NOTED: usize = 100;

/// Judges, and keeps the records that it judges by.
pub struct Verification {
    policy: CredentialPolicy,
    allowed: Vec<String>,
    records: Records,
    /// Records are read, changed and written by one at a time.
    turn: Arc<Mutex<()>>,
}

impl Verification {
    /// By this configuration.
    pub fn new(settings: &ImageSettings, records: Records) -> Arc<Self> {
        Arc::new(Self {
            policy: settings.verification,
            allowed: settings.verification_allowed.clone(),
            records,
            turn: Arc::default(),
        })
    }

    /// Whether a pod with these credentials may use the image of this id without pulling it.
    pub(super) async fn may_use(&self, image: &str, image_ref: &str, known: &[Credential]) -> Judgement {
        let repository = repository(image);
        let allowed = match self.policy {
            CredentialPolicy::NeverVerify => true,
            CredentialPolicy::NeverVerifyAllowlistedImages => is_allowed(&self.allowed, &repository),
            CredentialPolicy::NeverVerifyPreloadedImages | CredentialPolicy::AlwaysVerify => false,
        };
        if allowed {
            return Judgement::Yes;
        }
        let secrets: Vec<SecretRef> = known.iter().filter_map(secret_of).collect();
        let preloaded_is_fine = self.policy == CredentialPolicy::NeverVerifyPreloadedImages;
        let (image, image_ref) = (image.to_owned(), image_ref.to_owned());
        let judged = self.blocking(move |records| {
            let record = records.read(&image_ref)?;
            let Some(record) = record else {
                return Ok(Judgement::of(preloaded_is_fine && !records.is_begun(&image)));
            };
            let Some(access) = record.credential_mapping.get(&repository) else { return Ok(Judgement::No) };
            let fits = fits(access, &secrets);
            if let (false, Some(secret)) = (access.node_pods_accessible, &fits.news) {
                let access = with(access.clone(), secret.clone());
                records.put(&image_ref, &repository, access)?;
            }
            Ok(match fits.may_use {
                true => Judgement::Yes,
                false if access.kubernetes_service_accounts.is_empty() => Judgement::No,
                false => Judgement::For(access.kubernetes_service_accounts.clone()),
            })
        });
        judged.await.unwrap_or_else(|err| {
            tracing::warn!(error = %err, "no record of a pulled image: its credentials are checked again");
            Judgement::No
        })
    }

    /// What an earlier life was pulling when it ended: what it got of it is noted as pulled, by nobody knows whom.
    pub async fn recover(&self, runtime: &RuntimeHandle) {
        let Ok(begun) = self.blocking(|records| Ok(records.begun())).await else { return };
        for image in begun {
            let Ok(found) = runtime.image_status(&image).await else { continue };
            let noted = self.blocking(move |records| {
                if let Some(found) = found
                    && records.read(&found.id)?.is_none()
                {
                    records.put_unknown(&found.id)?;
                }
                records.end(&image)
            });
            if let Err(err) = noted.await {
                tracing::warn!(error = %err, "a pull that was cut off is not noted");
            }
        }
    }

    /// An image is about to be pulled.
    pub(super) async fn begin(&self, image: &str) -> io::Result<()> {
        if self.policy == CredentialPolicy::NeverVerify {
            return Ok(());
        }
        let image = image.to_owned();
        self.blocking(move |records| records.begin(&image)).await
    }

    /// It was pulled: the id that the runtime gave it, and with whose credentials. None: it could not be had.
    pub(super) async fn end(&self, image: &str, outcome: Option<(String, Option<Source>)>) {
        if self.policy == CredentialPolicy::NeverVerify {
            return;
        }
        let image = image.to_owned();
        let noted = self.blocking(move |records| {
            if let Some((image_ref, source)) = outcome {
                let repository = repository(&image);
                let before = records.read(&image_ref).ok().flatten();
                let before = before.and_then(|it| it.credential_mapping.get(&repository).cloned());
                let access = match source {
                    None | Some(Source::Node) => Access { node_pods_accessible: true, ..Access::default() },
                    Some(Source::Secret(secret)) => with(before.clone().unwrap_or_default(), secret),
                    Some(Source::Account(account)) => {
                        for_account(before.clone().unwrap_or_default(), account)
                    }
                };
                let wider = before.as_ref().is_some_and(|it| it.node_pods_accessible);
                if before.as_ref() != Some(&access) && !wider {
                    records.put(&image_ref, &repository, access)?;
                }
            }
            records.end(&image)
        });
        if let Err(err) = noted.await {
            tracing::warn!(error = %err, "a pull was not noted: its image's credentials are checked again");
        }
    }

    /// The image of this id was removed.
    pub(crate) async fn forget(&self, image_ref: &str) {
        let image_ref = image_ref.to_owned();
        if let Err(err) = self.blocking(move |records| records.forget(&image_ref)).await {
            tracing::debug!(error = %err, "the record of a removed image is left");
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Records) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (records, turn) = (self.records.clone(), self.turn.clone());
        let working = tokio::task::spawn_blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            work(&records)
        });
        working.await.unwrap_or_else(|_| Err(io::Error::other("the work was cut off")))
    }
}

/// Whether an image may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// By this pod.
    Yes,
    /// Not without another pull.
    No,
    /// By pods that run as one of these.
    For(Vec<AccountRef>),
}

impl Judgement {
    fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

struct Fits {
    may_use: bool,
    /// A Secret that is to be noted: known by its content under another name, or by its name with another content.
    news: Option<SecretRef>,
}

/// Whether one of the pod's Secrets is among those that the image was pulled with: pure.
fn fits(access: &Access, secrets: &[SecretRef]) -> Fits {
    if access.node_pods_accessible {
        return Fits { may_use: true, news: None };
    }
    for secret in secrets {
        for noted in &access.kubernetes_secrets {
            let same_content = !noted.hash.is_empty() && noted.hash == secret.hash;
            let same_name = is_same(noted, secret);
            if same_content || same_name {
                let news = (!(same_content && same_name)).then(|| secret.clone());
                return Fits { may_use: true, news };
            }
        }
    }
    Fits { may_use: false, news: None }
}

fn is_same(a: &SecretRef, b: &SecretRef) -> bool {
    (&a.uid, &a.namespace, &a.name) == (&b.uid, &b.namespace, &b.name)
}

/// One more Secret noted.
fn with(mut access: Access, secret: SecretRef) -> Access {
    access.kubernetes_secrets.retain(|it| !is_same(it, &secret));
    if access.kubernetes_secrets.len() >= NOTED {
        access.kubernetes_secrets.remove(0);
    }
    access.kubernetes_secrets.push(secret);
    access
        .kubernetes_secrets
        .sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
    access
}

/// One more account noted.
fn for_account(mut access: Access, account: AccountRef) -> Access {
    let all = &mut access.kubernetes_service_accounts;
    all.retain(|it| (&it.namespace, &it.name) != (&account.namespace, &account.name));
    if all.len() >= NOTED {
        all.remove(0);
    }
    all.push(account);
    access
}

/// `registry/path` names one repository, `registry/path/*` all below it.
fn is_allowed(allowed: &[String], repository: &str) -> bool {
    allowed.iter().any(|it| match it.strip_suffix("/*") {
        Some(folder) => repository.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')),
        None => it == repository,
    })
}

fn secret_of(credential: &Credential) -> Option<SecretRef> {
    match &credential.source {
        Source::Secret(secret) => Some(secret.clone()),
        Source::Node | Source::Account(_) => None,
    }
}
