//! `/healthz`, `/livez`, `/readyz`: each check by name, or all of them.

use http::{Response, StatusCode};

use super::body::Body;
use crate::api::Api;
use crate::call::Call;
use crate::registry::output::answer;

const TEXT: &str = "text/plain; charset=utf-8";
const CHECKS: [&str; 3] = ["ping", "log", "etcd"];

async fn holds(api: &Api, check: &str) -> Result<(), String> {
    match check {
        "etcd" => api.feed().store().revision().await.map(|_| ()).map_err(|err| err.to_string()),
        "informer-sync" => {
            if api.feed().applied() > 0 {
                Ok(())
            } else {
                Err("the watch cache has not started".to_owned())
            }
        }
        _ => Ok(()),
    }
}

/// Answers it.
pub async fn serve(api: &Api, call: &Call, parts: &[&str]) -> Response<Body> {
    let endpoint = parts[0];
    let mut checks = CHECKS.to_vec();
    if endpoint == "readyz" {
        checks.push("informer-sync");
    }
    if let Some(one) = parts.get(1) {
        if !checks.contains(one) {
            return answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned());
        }
        return match holds(api, one).await {
            Ok(()) => answer(StatusCode::OK, TEXT, "ok".to_owned()),
            Err(why) => {
                answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("internal server error: {why}\n"))
            }
        };
    }
    let excluded: Vec<&str> = call.query.all("exclude").collect();
    let (mut report, mut failed) = (String::new(), false);
    for check in checks {
        if excluded.contains(&check) {
            report.push_str(&format!("[+]{check} excluded: ok\n"));
            continue;
        }
        match holds(api, check).await {
            Ok(()) => report.push_str(&format!("[+]{check} ok\n")),
            Err(_) => {
                failed = true;
                report.push_str(&format!("[-]{check} failed: reason withheld\n"));
            }
        }
    }
    if failed {
        report.push_str(&format!("{endpoint} check failed\n"));
        return answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, report);
    }
    if call.query.has("verbose") {
        report.push_str(&format!("{endpoint} check passed\n"));
        return answer(StatusCode::OK, TEXT, report);
    }
    answer(StatusCode::OK, TEXT, "ok".to_owned())
}
