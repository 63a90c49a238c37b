//! Watches.

use crate::harness::{MAPS, Server, version};

#[tokio::test]
async fn a_watch_starts_with_what_there_is_and_follows() {
    let server = Server::start().await;
    server.config_map("a", "{}").await;
    let mut events = server.watch(&format!("{MAPS}?watch=1")).await;
    assert_eq!(events.line().await, "ADDED a");
    server.config_map("b", "{}").await;
    server.patch(&format!("{MAPS}/b"), "merge-patch+json", r#"{"data":{"k":"2"}}"#).await.ok();
    server.delete(&format!("{MAPS}/b"), "").await.ok();
    assert_eq!(events.line().await, "ADDED b");
    assert_eq!(events.line().await, "MODIFIED b");
    let gone = events.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(gone["object"]["data"]["k"], "2");
}

#[tokio::test]
async fn a_watch_goes_on_after_a_revision_and_its_deletions_have_one_too() {
    let server = Server::start().await;
    let a = server.config_map("a", "{}").await;
    server.config_map("b", "{}").await;
    server.delete(&format!("{MAPS}/a"), "").await.ok();
    let mut events = server.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&a))).await;
    let b = events.next().await.unwrap();
    let gone = events.next().await.unwrap();
    assert_eq!((b["type"].as_str(), gone["type"].as_str()), (Some("ADDED"), Some("DELETED")));
    assert!(version(&gone["object"]) > version(&b["object"]));
}

#[tokio::test]
async fn a_selection_turns_changes_into_comings_and_goings() {
    let server = Server::start().await;
    server.config_map("a", r#"{"x":"1"}"#).await;
    server.config_map("b", "{}").await;
    let mut events = server.watch(&format!("{MAPS}?watch=1&labelSelector=x%3D1")).await;
    assert_eq!(events.line().await, "ADDED a");
    let set = async |name: &str, label: &str| {
        let patch = format!(r#"{{"metadata":{{"labels":{{"x":{label}}}}}}}"#);
        server.patch(&format!("{MAPS}/{name}"), "merge-patch+json", &patch).await.ok();
    };
    set("b", "\"1\"").await;
    set("a", "\"2\"").await;
    set("a", "\"3\"").await;
    set("b", "null").await;
    assert_eq!(events.line().await, "ADDED b");
    assert_eq!(events.line().await, "DELETED a");
    assert_eq!(events.line().await, "DELETED b");
}

#[tokio::test]
async fn a_revision_that_is_too_old_is_told_so() {
    let server = Server::start().await;
    server.config_map("a", "{}").await;
    let mut events = server.watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let event = events.next().await.unwrap();
    assert_eq!((event["type"].as_str(), event["object"]["code"].as_i64()), (Some("ERROR"), Some(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_streamed_list_ends_with_a_marked_bookmark() {
    let server = Server::start().await;
    server.config_map("a", "{}").await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = server.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(events.line().await, "ADDED a");
    let mark = events.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    server.config_map("b", "{}").await;
    assert_eq!(events.line().await, "ADDED b");
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_over_with_a_bookmark_for_who_wants_one() {
    let server = Server::start().await;
    let a = server.config_map("a", "{}").await;
    let query = format!("watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={}", version(&a));
    let mut events = server.watch(&format!("{MAPS}?{query}")).await;
    // Something elsewhere moves the revision on.
    server.post("/api/v1/namespaces", r#"{"metadata":{"name":"n"}}"#).await.ok();
    let mark = events.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert!(version(&mark["object"]) > version(&a));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn one_name_can_be_watched() {
    let server = Server::start().await;
    server.config_map("a", "{}").await;
    server.config_map("b", "{}").await;
    let mut events = server.watch(&format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Db")).await;
    assert_eq!(events.line().await, "ADDED b");
}
