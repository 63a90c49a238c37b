//! The recorder against the server in memory.

use super::*;
use crate::testing::FakeApi;

#[tokio::test]
async fn events_are_created_counted_and_begun_anew() {
    let api = FakeApi::new();
    let recorder =
        EventRecorder::start(api.client(), "tester", "host", &TaskTracker::new(), CancellationToken::new());
    let about = ObjectRef { kind: "Node".into(), name: "n".into(), ..ObjectRef::default() };
    recorder.normal(&about, "Happened", "it did");
    recorder.normal(&about, "Happened", "it did");
    let path = "/api/v1/namespaces/default/events";
    let event = api.until(|api| api.list(path).into_iter().find(|event| event["count"] == 2)).await;
    assert_eq!(event["involvedObject"]["name"], "n");
    assert_eq!(event["reportingComponent"], "tester");
    assert_eq!(event["source"]["host"], "host");
    api.delete(&format!("{path}/{}", event["metadata"]["name"].as_str().unwrap()), &json!({}));
    recorder.normal(&about, "Happened", "it did");
    let event = api.until(|api| api.list(path).into_iter().next()).await;
    assert_eq!(event["count"], 1);
}
