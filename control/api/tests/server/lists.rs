//! Lists: selectors, pages, revisions, tables.

use serde_json::json;

use crate::harness::{MAPS, PODS, Server, names, request, version};

#[tokio::test]
async fn selectors_choose() {
    let server = Server::start().await;
    server.config_map("a", r#"{"x":"1"}"#).await;
    server.config_map("b", r#"{"x":"2"}"#).await;
    server.config_map("c", "{}").await;
    let check = async |query: &str, want: &[&str]| {
        assert_eq!(names(&server.get(&format!("{MAPS}?{query}")).await.ok()), want, "{query}");
    };
    check("", &["a", "b", "c"]).await;
    check("labelSelector=x%3D1", &["a"]).await;
    check("labelSelector=x%20in%20(1,2)", &["a", "b"]).await;
    check("labelSelector=!x", &["c"]).await;
    check("fieldSelector=metadata.name%3Db", &["b"]).await;
    check("fieldSelector=metadata.name!%3Db", &["a", "c"]).await;
    check("labelSelector=x&fieldSelector=metadata.name%3Da", &["a"]).await;
    let bad = server.get(&format!("{MAPS}?fieldSelector=data.k%3Dv")).await;
    assert_eq!(bad.failure(), "400 BadRequest: field label not supported: data.k");
    assert_eq!(server.get(&format!("{MAPS}?labelSelector=%3D%3D")).await.code, 400);
    let pod = r#"{"metadata":{"name":"p"},"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i"}]}}"#;
    server.post(PODS, pod).await.ok();
    let on = |node: &str| format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
    assert_eq!(names(&server.get(&on("n1")).await.ok()), ["p"]);
    assert!(names(&server.get(&on("n2")).await.ok()).is_empty());
}

#[tokio::test]
async fn pages_show_one_moment_whatever_happens_between_them() {
    let server = Server::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        server.config_map(name, "{}").await;
    }
    let first = server.get(&format!("{MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    server.config_map("bb", "{}").await;
    server.delete(&format!("{MAPS}/d"), "").await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(version(&second), version(&first));
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = server.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&last), ["e"]);
    assert!(last["metadata"].get("continue").is_none());
    assert_eq!(server.get(&format!("{MAPS}?limit=2&continue=abc")).await.code, 400);
}

#[tokio::test]
async fn a_page_of_a_forgotten_revision_has_expired() {
    let server = Server::start().await;
    server.config_map("a", "{}").await;
    server.config_map("b", "{}").await;
    let first = server.get(&format!("{MAPS}?limit=1")).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let newest = server.config_map("c", "{}").await;
    server.api.api().feed().store().compact(version(&newest)).await.unwrap();
    let expired = server.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!((expired.code, expired.json()["reason"].clone()), (410, json!("Expired")));
}

#[tokio::test]
async fn a_list_can_ask_for_its_moment() {
    let server = Server::start().await;
    let a = server.config_map("a", "{}").await;
    let b = server.config_map("b", "{}").await;
    let at = |n: i64, how: &str| format!("{MAPS}?resourceVersion={n}&resourceVersionMatch={how}");
    assert_eq!(names(&server.get(&at(version(&a), "Exact")).await.ok()), ["a"]);
    assert_eq!(names(&server.get(&at(version(&a), "NotOlderThan")).await.ok()), ["a", "b"]);
    assert_eq!(version(&server.get(MAPS).await.ok()), version(&b));
    let future = server.get(&at(version(&b) + 100, "NotOlderThan")).await;
    assert!(future.failure().contains("Too large resource version"), "{}", future.failure());
    assert_eq!(server.get(&at(version(&b), "Other")).await.code, 422);
    assert_eq!(server.get(&format!("{MAPS}?resourceVersion=x")).await.code, 400);
}

#[tokio::test]
async fn tables_and_metadata_are_shown_on_request() {
    let server = Server::start().await;
    server.config_map("a", "{}").await;
    let shown = async |path: &str, what: &str| {
        let mut get = request("GET", path, "", "");
        let accept = format!("application/json;as={what};v=v1;g=meta.k8s.io,application/json");
        get.headers_mut().insert("accept", accept.parse().unwrap());
        server.send(get).await.ok()
    };
    let table = shown(MAPS, "Table").await;
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let list = shown(MAPS, "PartialObjectMetadataList").await;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0].get("data").is_none());
}

#[tokio::test]
async fn a_big_list_is_compressed_for_who_reads_it() {
    use std::io::Read;
    let server = Server::start().await;
    for n in 0..20 {
        let body = json!({ "metadata": { "name": format!("m{n}") }, "data": { "k": "x".repeat(20_000) } });
        server.post(MAPS, &body.to_string()).await.ok();
    }
    let plain = server.get(MAPS).await;
    let mut get = request("GET", MAPS, "", "");
    get.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    let zipped = server.send(get).await;
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&zipped.bytes[..]).read_to_end(&mut text).unwrap();
    assert_eq!(text, plain.bytes);
    assert_eq!(names(&plain.ok()).len(), 20);
}
