//! Policies, credentials and verification over the fake runtime.

use std::path::Path;
use std::sync::Arc;

use coracle_cri::Code;
use coracle_cri::fake::{FakeConfig, FakeRuntime, Fault};
use k8s_openapi::api::core::v1::Pod;

use super::*;
use crate::config::{CredentialPolicy, ImageSettings};
use crate::metrics::Metrics;
use crate::translate::ImageFacts;
use crate::worker::tests::home::Heard;

struct Bench {
    fake: FakeRuntime,
    heard: Arc<Heard>,
    puller: Arc<Puller>,
    verification: Arc<Verification>,
    pod: Pod,
}

impl Bench {
    fn with(verification: CredentialPolicy, allowed: &[&str], root: &Path) -> Self {
        let fake = FakeRuntime::new(FakeConfig { pull_anything: false, ..FakeConfig::default() });
        let heard = Arc::new(Heard::default());
        let allowed = allowed.iter().map(|it| (*it).to_owned()).collect();
        let settings =
            ImageSettings { verification, verification_allowed: allowed, ..ImageSettings::default() };
        let verification = Verification::new(&settings, Records::new(root));
        let puller = Puller::new(PullerDeps {
            runtime: Arc::new(fake.clone()),
            events: heard.clone(),
            metrics: Arc::new(Metrics::new()),
            node: Arc::default(),
            verification: verification.clone(),
            settings,
        });
        Self { fake, heard, puller, verification, pod: Pod::default() }
    }

    async fn ensure(
        &self,
        image: &str,
        policy: &str,
        known: &[Credential],
    ) -> Result<ImageFacts, ImageFailure> {
        self.heard.0.lock().unwrap().clear();
        let request = PullRequest {
            pod: &self.pod,
            container: Some("app"),
            image,
            policy: Some(policy),
            credentials: known,
            sandbox: None,
        };
        self.puller.ensure(request).await
    }

    fn events(&self) -> Vec<String> {
        self.heard.0.lock().unwrap().clone()
    }

    fn pulls(&self) -> usize {
        self.fake.calls().iter().filter(|it| it.starts_with("PullImage")).count()
    }
}

fn secret(name: &str, password: &str) -> Credential {
    let reference = SecretRef {
        uid: format!("u-{name}"),
        namespace: "n".into(),
        name: name.into(),
        hash: password.into(),
    };
    let source = Source::Secret(reference);
    Credential { source, ..Credential::new("reg.example", "user".into(), password.into()) }
}

#[tokio::test]
async fn policies_in_upstreams_words() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(CredentialPolicy::NeverVerifyPreloadedImages, &[], folder.path());
    bench.fake.publish("reg.example/a:1");
    assert!(bench.ensure("reg.example/a:1", "IfNotPresent", &[]).await.is_ok());
    let events = bench.events();
    assert_eq!(events[0], r#"Pulling: Pulling image "reg.example/a:1""#);
    assert!(
        events[1].starts_with(r#"Pulled: Successfully pulled image "reg.example/a:1" in "#),
        "{events:?}"
    );
    assert!(events[1].ends_with(" including waiting). Image size: 10485760 bytes."), "{events:?}");
    assert!(bench.ensure("reg.example/a:1", "IfNotPresent", &[]).await.is_ok());
    assert_eq!(
        bench.events(),
        [
            r#"Pulled: Container image "reg.example/a:1" already present on machine and can be accessed by the pod"#
        ]
    );
    assert_eq!(bench.pulls(), 1);

    let check = async |image: &str, policy: &str, reason: &str, message: &str| {
        let failure = bench.ensure(image, policy, &[]).await.unwrap_err();
        assert_eq!((failure.reason, failure.message.contains(message)), (reason, true), "{failure:?}");
        assert_eq!(bench.events().last().unwrap(), &format!("Failed: Error: {reason}"));
    };
    let never = r#"Container image "reg.example/b:1" is not present with pull policy of Never"#;
    check("reg.example/b:1", "Never", "ErrImageNeverPull", never).await;
    check("Bad Name", "Always", "InvalidImageName", "couldn't parse image name").await;
    check("reg.example/b:1", "Always", "ErrImagePull", "rpc error: code = NotFound desc = failed to pull")
        .await;
    bench.fake.publish("reg.example/b:1");
    let unavailable = |message: &str| {
        bench.fake.inject("PullImage", Fault::Fail(Code::Unknown, message.into()), 1);
    };
    unavailable("RegistryUnavailable: try later");
    let want = "image pull failed for reg.example/b:1 because the registry is unavailable: try later";
    check("reg.example/b:1", "Always", "RegistryUnavailable", want).await;
    unavailable("no luck");
    check("reg.example/b:1", "Always", "ErrImagePull", "no luck").await;
}

#[tokio::test]
async fn each_credential_is_tried_and_none_only_where_there_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(CredentialPolicy::NeverVerify, &[], folder.path());
    bench.fake.publish("reg.example/a:1");
    bench.fake.inject("PullImage", Fault::Fail(Code::Unknown, "denied".into()), 2);
    let known = [secret("one", "1"), secret("two", "2")];
    let failure = bench.ensure("reg.example/a:1", "Always", &known).await.unwrap_err();
    assert_eq!((failure.message.as_str(), bench.pulls()), ("denied", 2));
    bench.fake.inject("PullImage", Fault::Fail(Code::Unknown, "denied".into()), 1);
    bench.ensure("reg.example/a:1", "Always", &known).await.unwrap();
    assert_eq!(bench.pulls(), 4);
}

#[tokio::test]
async fn an_image_pulled_with_a_secret_is_for_those_who_know_it() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(CredentialPolicy::NeverVerifyPreloadedImages, &[], folder.path());
    let image = "reg.example/a:1";
    bench.fake.publish(image);
    let check = async |bench: &Bench, known: &[Credential], pulls: usize| {
        let before = bench.pulls();
        bench.ensure(image, "IfNotPresent", known).await.unwrap();
        assert_eq!(bench.pulls() - before, pulls);
    };
    check(&bench, &[secret("one", "1")], 1).await;
    check(&bench, &[secret("one", "1")], 0).await;
    check(&bench, &[secret("one", "changed")], 0).await; // the same Secret
    check(&bench, &[secret("copy", "changed")], 0).await; // the same content
    check(&bench, &[secret("two", "2")], 1).await;
    check(&bench, &[secret("two", "2")], 0).await;
    let failure = bench.ensure(image, "Never", &[]).await.unwrap_err();
    assert!(failure.message.ends_with("does not have the proper auth"), "{failure:?}");
    check(&bench, &[], 1).await; // the registry gives it to anybody, as it turns out
    check(&bench, &[], 0).await;
    bench.ensure(image, "Never", &[]).await.unwrap();
}

#[tokio::test]
async fn images_from_before_and_images_of_a_list() {
    use CredentialPolicy::{
        AlwaysVerify, NeverVerify, NeverVerifyAllowlistedImages, NeverVerifyPreloadedImages,
    };
    let check = async |policy: CredentialPolicy, allowed: &[&str], pulls: usize| {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::with(policy, allowed, folder.path());
        bench.fake.publish("reg.example/team/a:1");
        bench.fake.add_image("reg.example/team/a:1", 1);
        bench.ensure("reg.example/team/a:1", "IfNotPresent", &[]).await.unwrap();
        assert_eq!(bench.pulls(), pulls, "{policy:?} {allowed:?}");
    };
    check(NeverVerifyPreloadedImages, &[], 0).await;
    check(NeverVerify, &[], 0).await;
    check(AlwaysVerify, &[], 1).await;
    check(NeverVerifyAllowlistedImages, &["reg.example/team/a"], 0).await;
    check(NeverVerifyAllowlistedImages, &["reg.example/team/*"], 0).await;
    check(NeverVerifyAllowlistedImages, &["reg.example/tea/*"], 1).await;
}

#[tokio::test]
async fn the_nodes_files_in_upstreams_order() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["a", "b", "c"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    let entry = |user: &str| format!(r#"{{"reg.example":{{"username":"{user}","password":"p"}}}}"#);
    let users = async || {
        let settings = ImageSettings {
            config_json_folders: vec![at("a"), at("b")],
            dockercfg_folders: vec![at("c")],
            ..ImageSettings::default()
        };
        let node = NodeCredentials::new(&settings, Arc::new(NoAccounts));
        let found = node.lookup("reg.example/x", &Pod::default()).await;
        found.iter().map(|it| it.auth().username).collect::<Vec<_>>()
    };
    assert_eq!(users().await, Vec::<String>::new());
    std::fs::write(at("c").join(".dockercfg"), entry("cfg")).unwrap();
    assert_eq!(users().await, ["cfg"]);
    std::fs::write(at("b").join("config.json"), format!(r#"{{"auths":{}}}"#, entry("second"))).unwrap();
    assert_eq!(users().await, ["second"]);
    std::fs::write(at("a").join("config.json"), "{").unwrap();
    assert_eq!(users().await, ["second"]);
    std::fs::write(at("a").join("config.json"), format!(r#"{{"auths":{}}}"#, entry("first"))).unwrap();
    assert_eq!(users().await, ["first"]);
}

#[tokio::test]
async fn a_pull_that_was_cut_off_is_not_taken_for_an_image_from_before() {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::new(folder.path());
    for image in ["reg.example/half:1", "reg.example/none:1"] {
        records.begin(image).unwrap();
    }
    let bench = Bench::with(CredentialPolicy::NeverVerifyPreloadedImages, &[], folder.path());
    bench.fake.add_image("reg.example/half:1", 1);
    bench.fake.publish("reg.example/half:1");
    let runtime: coracle_cri::RuntimeHandle = Arc::new(bench.fake.clone());
    bench.verification.recover(&runtime).await;
    assert_eq!(records.begun(), Vec::<String>::new());
    bench.ensure("reg.example/half:1", "IfNotPresent", &[]).await.unwrap();
    assert_eq!(bench.pulls(), 1);
    bench.fake.add_image("reg.example/none:1", 1);
    bench.ensure("reg.example/none:1", "IfNotPresent", &[]).await.unwrap();
    assert_eq!(bench.pulls(), 1);
}

#[tokio::test(start_paused = true)]
async fn as_many_pulls_at_once_as_is_said() {
    let check = async |serialize_pulls: bool, max_parallel_pulls: Option<u32>, seconds: u64| {
        let fake = FakeRuntime::new(FakeConfig {
            pull_time: std::time::Duration::from_secs(10),
            ..FakeConfig::default()
        });
        let settings = ImageSettings { serialize_pulls, max_parallel_pulls, ..ImageSettings::default() };
        let puller = Puller::new(PullerDeps {
            runtime: Arc::new(fake),
            events: Arc::new(Heard::default()),
            metrics: Arc::new(Metrics::new()),
            node: Arc::default(),
            verification: Verification::new(&settings, Records::new(Path::new("/nonexistent"))),
            settings,
        });
        let began = tokio::time::Instant::now();
        let pod = Pod::default();
        let pulls = ["a:1", "b:1", "c:1", "d:1"].map(|image| {
            let request = PullRequest {
                pod: &pod,
                container: None,
                image,
                policy: None,
                credentials: &[],
                sandbox: None,
            };
            puller.ensure(request)
        });
        futures::future::try_join_all(pulls).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), seconds, "{serialize_pulls} {max_parallel_pulls:?}");
    };
    check(true, None, 40).await;
    check(false, Some(2), 20).await;
    check(false, None, 10).await;
}

/// Every pod's account of this name is the same one.
struct OneAccount;

#[async_trait::async_trait]
impl Accounts for OneAccount {
    async fn account(&self, namespace: &str, name: &str) -> Result<Account, String> {
        let reference = AccountRef { uid: "u".into(), namespace: namespace.into(), name: name.into() };
        Ok(Account { reference, annotations: [].into() })
    }

    async fn token(&self, _: &Pod, _: &str, _: &str) -> Result<String, String> {
        Err("not asked for here".into())
    }
}

#[tokio::test]
async fn an_image_pulled_in_the_name_of_an_account_is_for_its_pods() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ImageSettings { verification: CredentialPolicy::AlwaysVerify, ..ImageSettings::default() };
    let verification = Verification::new(&settings, Records::new(folder.path()));
    let node = NodeCredentials::new(&settings, Arc::new(OneAccount));
    let reference = AccountRef { uid: "u".into(), namespace: "n".into(), name: "puller".into() };
    let source = Some(Source::Account(reference));
    verification.end("reg.example/a:1", Some(("sha256:1".into(), source))).await;
    let judged = verification.may_use("reg.example/a:1", "sha256:1", &[]).await;
    let verification::Judgement::For(accounts) = judged else { panic!("{judged:?}") };
    let pod = |namespace: &str, account: &str| -> Pod {
        let json = format!(
            r#"{{"metadata":{{"namespace":"{namespace}"}},"spec":{{"serviceAccountName":"{account}","containers":[]}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    };
    assert!(node.runs_as(&pod("n", "puller"), &accounts).await);
    assert!(!node.runs_as(&pod("n", "other"), &accounts).await);
    assert!(!node.runs_as(&pod("m", "puller"), &accounts).await);
    assert!(!node.runs_as(&pod("n", ""), &accounts).await);
}
