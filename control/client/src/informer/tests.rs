//! An informer against the server in memory, with every kind of break.

use super::*;
use crate::testing::FakeApi;
use crate::views::MetaOnly;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const PATH: &str = "/api/v1/namespaces/a/configmaps";

fn start(api: &FakeApi, params: Params<MetaOnly>) -> (Informer<MetaOnly>, CancellationToken) {
    let token = CancellationToken::new();
    let endpoint = Endpoint::new(api.client(), &Resource::core("configmaps"), "");
    (Informer::start(endpoint, params, &TaskTracker::new(), token.clone()), token)
}

fn names(informer: &Informer<MetaOnly>) -> Vec<String> {
    informer.store().list().iter().map(|it| it.metadata.name.clone()).collect()
}

fn put(api: &FakeApi, name: &str) {
    api.create(PATH, json!({"metadata": {"name": name}}));
}

/// Reads changes until the store holds exactly `want`.
async fn reaches(informer: &Informer<MetaOnly>, changes: &mut Subscription<MetaOnly>, want: &[&str]) {
    let wait = async {
        while names(informer) != want {
            changes.next().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait)
        .await
        .unwrap_or_else(|_| panic!("store has {:?}, want {want:?}", names(informer)));
}

#[tokio::test(start_paused = true)]
async fn lists_in_pages_and_follows() {
    let api = FakeApi::new();
    for name in ["a", "b", "c", "d", "e"] {
        put(&api, name);
    }
    let (informer, _token) = start(&api, Params { page: 2, ..Params::default() });
    let mut changes = informer.subscribe();
    assert!(matches!(changes.next().await, Some(Change::Resync)));
    assert_eq!(names(&informer), ["a", "b", "c", "d", "e"]);
    put(&api, "f");
    assert!(matches!(changes.next().await, Some(Change::Added(it)) if it.metadata.name == "f"));
    api.merge(&format!("{PATH}/f"), &json!({"metadata": {"labels": {"x": "y"}}}));
    assert!(matches!(changes.next().await, Some(Change::Updated { old, new })
        if old.metadata.label("x").is_none() && new.metadata.label("x") == Some("y")));
    api.delete(&format!("{PATH}/f"), &json!({}));
    assert!(matches!(changes.next().await, Some(Change::Deleted(it)) if it.metadata.name == "f"));
}

#[tokio::test(start_paused = true)]
async fn a_cut_watch_resumes_without_a_list() {
    let api = FakeApi::new();
    put(&api, "a");
    let (informer, _token) = start(&api, Params::default());
    let mut changes = informer.subscribe();
    reaches(&informer, &mut changes, &["a"]).await;
    api.mute_watches();
    put(&api, "b");
    api.delete(&format!("{PATH}/a"), &json!({}));
    api.cut_watches();
    reaches(&informer, &mut changes, &["b"]).await;
    assert_eq!(api.requests()["GET /api/v1/configmaps"], 3, "one list, two watches");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_version_is_listed_anew_and_told_as_the_difference() {
    let api = FakeApi::new();
    put(&api, "a");
    put(&api, "b");
    let (informer, _token) = start(&api, Params::default());
    let mut changes = informer.subscribe();
    reaches(&informer, &mut changes, &["a", "b"]).await;
    api.mute_watches();
    api.delete(&format!("{PATH}/a"), &json!({}));
    put(&api, "c");
    api.compact();
    api.cut_watches();
    let mut told = BTreeSet::new();
    while told.len() < 2 {
        match changes.next().await.unwrap() {
            Change::Added(it) => told.insert(format!("+{}", it.metadata.name)),
            Change::Deleted(it) => told.insert(format!("-{}", it.metadata.name)),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(told, BTreeSet::from(["+c".into(), "-a".into()]));
    assert_eq!(names(&informer), ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn failing_lists_are_retried_and_a_stale_page_begins_again() {
    let api = FakeApi::new();
    for name in ["a", "b", "c"] {
        put(&api, name);
    }
    api.fail(&http::Method::GET, "configmaps", 3, 503);
    api.fail(&http::Method::GET, "configmaps", 1, 410);
    let (informer, _token) = start(&api, Params { page: 1, ..Params::default() });
    tokio::time::timeout(Duration::from_secs(60), informer.synced()).await.unwrap();
    assert_eq!(names(&informer), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_over_many_breaks() {
    let api = FakeApi::new();
    let (informer, _token) = start(&api, Params { page: 3, ..Params::default() });
    informer.synced().await;
    let mut want = BTreeSet::new();
    for round in 0..40_u32 {
        let name = format!("n{round:02}");
        put(&api, &name);
        want.insert(name);
        if round % 3 == 0 {
            let gone = format!("n{:02}", round / 2);
            if want.remove(&gone) {
                api.delete(&format!("{PATH}/{gone}"), &json!({}));
            }
        }
        match round % 5 {
            1 => api.mute_watches(),
            3 => api.compact(),
            4 => api.cut_watches(),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 7)).await;
    }
    api.cut_watches();
    let want: Vec<&str> = want.iter().map(String::as_str).collect();
    reaches(&informer, &mut informer.subscribe(), &want).await;
}

#[tokio::test(start_paused = true)]
async fn selectors_reach_the_server() {
    let api = FakeApi::new();
    api.create(PATH, json!({"metadata": {"name": "x", "labels": {"k": "v"}}}));
    put(&api, "y");
    let (informer, _token) = start(&api, Params::all().labels("k=v"));
    informer.synced().await;
    assert_eq!(names(&informer), ["x"]);
    let (informer, _token) = start(&api, Params::all().fields("metadata.name=y"));
    informer.synced().await;
    assert_eq!(names(&informer), ["y"]);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_informer_ends_its_waiters() {
    let api = FakeApi::new();
    api.fail(&http::Method::GET, "configmaps", u32::MAX, 500);
    let (informer, token) = start(&api, Params::default());
    let mut changes = informer.subscribe();
    token.cancel();
    informer.synced().await;
    assert!(!informer.is_synced());
    assert!(changes.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn types_of_the_api_work_as_views() {
    let api = FakeApi::new();
    api.create(
        PATH,
        json!({"metadata": {"name": "x", "managedFields": [{"manager": "m"}]}, "data": {"k": "v"}}),
    );
    let kinds: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(api.client(), "a");
    let informer = Informer::<k8s_openapi::api::core::v1::ConfigMap>::start(
        kinds,
        Params::default(),
        &TaskTracker::new(),
        CancellationToken::new(),
    );
    informer.synced().await;
    let object = informer.store().find("a", "x").unwrap();
    assert_eq!(object.data.as_ref().unwrap()["k"], "v");
    assert!(object.metadata.managed_fields.is_none());
}
