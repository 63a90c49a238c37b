//! Certificate signing requests: what may be asked for, and what approvers and signers may say of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_apimachinery::field::FieldError;
use coracle_apimachinery::{GoDuration, Path, duration};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::print::{AGE, NAME, NONE, age, col, name, or};
use super::tree::{is_set, list, text};
use super::validate::Errors;
use super::{KindOps, Printer};
use crate::auth::pki::is_usage;

/// The shortest time that may be asked for, in seconds.
const SHORTEST: i64 = 600;
/// Whoever asked such a signer under the old versions of the API; under this one nobody may.
const LEGACY: &str = "kubernetes.io/legacy-unknown";
/// Conditions that stay once they are set.
const LASTING: [&str; 3] = ["Approved", "Denied", "Failed"];

/// Certificate signing requests.
pub static CERTIFICATE_REQUEST: KindOps = KindOps {
    // What has been asked for, and by whom, is approved as it was.
    prepare_update: |new, old| {
        if let Some(spec) = old.get("spec") {
            new["spec"] = spec.clone();
        }
    },
    validate_create,
    prepare_status: keep_verdict,
    validate_status,
    fields: &["spec.signerName"],
    printer: Some(Printer {
        columns: &[
            NAME,
            AGE,
            col("SignerName"),
            col("Requestor"),
            col("RequestedDuration"),
            col("Condition"),
        ],
        cells: |object, now| {
            let spec = &object["spec"];
            let wanted = spec["expirationSeconds"]
                .as_i64()
                .map(|seconds| duration::human(GoDuration::from_secs(seconds).nanos() / 1_000_000_000));
            vec![
                name(object),
                age(object, now),
                or(text(&spec["signerName"]), NONE),
                text(&spec["username"]).into(),
                or(&wanted.unwrap_or_default(), NONE),
                request_state(object).into(),
            ]
        },
    }),
    ..KindOps::BASE
};

fn request_state(object: &Value) -> String {
    let holds = |kind: &str| list(&object["status"]["conditions"]).iter().any(|c| c["type"] == kind);
    let mut words = Vec::new();
    match (holds("Denied"), holds("Approved")) {
        (true, _) => words.push("Denied"),
        (_, true) => words.push("Approved"),
        _ => words.push("Pending"),
    }
    if holds("Failed") {
        words.push("Failed");
    }
    if is_set(&object["status"]["certificate"]) {
        words.push("Issued");
    }
    words.join(",")
}

/// The PKCS#10 request in a field of base64, and what is wrong with it.
fn with_parsed<T>(
    request: &str,
    read: impl FnOnce(&X509CertificationRequest<'_>) -> T,
) -> Result<T, &'static str> {
    const NO_PEM: &str = "PEM block type must be CERTIFICATE REQUEST";
    let bytes = STANDARD.decode(request).map_err(|_| NO_PEM)?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&bytes).map_err(|_| NO_PEM)?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(NO_PEM);
    }
    let (_, parsed) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|_| "it is no PKCS#10 certificate request")?;
    Ok(read(&parsed))
}

/// The organizations that a request in base64 asks for.
pub fn organizations(request: &str) -> Vec<String> {
    let read = |parsed: &X509CertificationRequest<'_>| {
        let subject = &parsed.certification_request_info.subject;
        subject.iter_organization().filter_map(|it| it.as_str().ok().map(str::to_owned)).collect()
    };
    with_parsed(request, read).unwrap_or_default()
}

fn validate_create(object: &Value) -> Vec<FieldError> {
    let (mut errors, path, spec) = (Errors::default(), Path::new("spec"), &object["spec"]);
    if errors.required(&path.child("request"), &spec["request"])
        && let Err(why) = with_parsed(text(&spec["request"]), |_| ())
    {
        errors.push(FieldError::invalid(&path.child("request"), spec["request"].clone(), why));
    }
    let signer = text(&spec["signerName"]);
    if errors.required(&path.child("signerName"), &spec["signerName"]) {
        let path = path.child("signerName");
        if signer == LEGACY {
            errors.push(FieldError::invalid(
                &path,
                signer,
                "the legacy signerName is not allowed via this API version",
            ));
        }
        let domain = signer.split_once('/').filter(|(domain, name)| domain.contains('.') && !name.is_empty());
        if domain.is_none() {
            let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            errors.push(FieldError::invalid(&path, signer, why));
        }
    }
    let usages = path.child("usages");
    errors.required(&usages, &spec["usages"]);
    for (index, usage) in list(&spec["usages"]).iter().enumerate() {
        if !is_usage(text(usage)) {
            errors.push(FieldError::invalid(&usages.index(index), text(usage), "no use of a certificate"));
        }
        if list(&spec["usages"]).iter().take(index).any(|it| it == usage) {
            errors.push(FieldError::duplicate(&usages.index(index), text(usage)));
        }
    }
    if let Some(seconds) = spec["expirationSeconds"].as_i64().filter(|it| *it < SHORTEST) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, why));
    }
    errors.0
}

fn of_kind<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&object["status"]["conditions"]).iter().find(|it| it["type"] == kind)
}

/// Approval and denial are given by `/approval` alone: an update of `/status` leaves them as they were.
fn keep_verdict(new: &mut Value, old: &Value) {
    let verdict = |it: &Value| it["type"] == "Approved" || it["type"] == "Denied";
    let of = |object: &Value, wanted: bool| -> Vec<Value> {
        let all = list(&object["status"]["conditions"]).iter();
        all.filter(|it| verdict(it) == wanted).cloned().collect()
    };
    if of(new, true) == of(old, true) {
        return;
    }
    let mut conditions = of(old, true);
    conditions.extend(of(new, false));
    if !conditions.is_empty() {
        new["status"]["conditions"] = Value::Array(conditions);
    } else if let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("conditions");
    }
}

fn validate_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let path = Path::new("status").child("conditions");
    for (index, condition) in list(&new["status"]["conditions"]).iter().enumerate() {
        let (path, kind) = (path.index(index), text(&condition["type"]));
        errors.required(&path.child("type"), &condition["type"]);
        if LASTING.contains(&kind) {
            errors.one_of(&path.child("status"), &condition["status"], &["True"]);
        }
        if list(&new["status"]["conditions"]).iter().take(index).any(|it| it["type"] == kind) {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
    }
    for kind in LASTING {
        if of_kind(old, kind).is_some() && of_kind(new, kind).is_none() {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&path, why));
        }
    }
    if of_kind(new, "Approved").is_some() && of_kind(new, "Denied").is_some() {
        errors.push(FieldError::invalid(
            &path,
            "Approved, Denied",
            "Approved and Denied conditions are mutually exclusive",
        ));
    }
    let (was, is) = (&old["status"]["certificate"], &new["status"]["certificate"]);
    if is_set(was) && was != is {
        let path = Path::new("status").child("certificate");
        errors.push(FieldError::forbidden(&path, "updates may not modify a certificate that is set"));
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn states_of_certificate_requests() {
        let check =
            |status: Value, expected: &str| assert_eq!(request_state(&json!({"status": status})), expected);
        check(json!({}), "Pending");
        check(json!({"conditions": [{"type": "Approved"}]}), "Approved");
        check(json!({"conditions": [{"type": "Approved"}], "certificate": "x"}), "Approved,Issued");
        check(json!({"conditions": [{"type": "Denied"}, {"type": "Failed"}]}), "Denied,Failed");
    }

    fn request(organization: &str) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        let key = rcgen::KeyPair::generate().unwrap();
        STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
    }

    #[test]
    fn what_cannot_be_signed_is_not_taken() {
        let good = json!({"request": request("a"), "signerName": "example.com/x", "usages": ["client auth"]});
        assert_eq!(validate_create(&json!({"spec": good})).len(), 0);
        for (field, value, expected) in [
            ("request", Value::Null, "spec.request: Required value"),
            ("request", json!("bm90"), "PEM block type must be CERTIFICATE REQUEST"),
            ("signerName", json!("x"), "must be a fully qualified domain and path"),
            ("signerName", json!(LEGACY), "the legacy signerName is not allowed"),
            ("usages", json!([]), "spec.usages: Required value"),
            ("usages", json!(["fun"]), "spec.usages[0]: Invalid value: \"fun\""),
            ("usages", json!(["any", "any"]), "spec.usages[1]: Duplicate value: \"any\""),
            ("expirationSeconds", json!(599), "may not specify a duration less than 600 seconds"),
        ] {
            let mut spec = good.clone();
            spec[field] = value;
            let errors = validate_create(&json!({"spec": spec}));
            let text = errors.iter().map(FieldError::to_string).collect::<String>();
            assert!(errors.len() == 1 && text.contains(expected), "{text}");
        }
        assert_eq!(organizations(&request("system:masters")), ["system:masters"]);
        assert_eq!(organizations("bm90"), [""; 0]);
    }

    #[test]
    fn a_verdict_lasts() {
        let of = |kinds: &[&str]| -> Value {
            let all: Vec<_> = kinds.iter().map(|it| json!({"type": it, "status": "True"})).collect();
            json!({"status": {"conditions": all}})
        };
        let errors = |new: &Value, old: &Value| validate_status(new, old).len();
        assert_eq!(errors(&of(&["Approved"]), &of(&[])), 0);
        assert_eq!(errors(&of(&[]), &of(&["Approved"])), 1);
        assert_eq!(errors(&of(&["Approved", "Denied"]), &of(&["Approved"])), 1);
        assert_eq!(errors(&of(&["Denied", "Denied"]), &of(&[])), 1);
        let no = json!({"status": {"conditions": [{"type": "Approved", "status": "False"}]}});
        assert_eq!(errors(&no, &of(&[])), 1);
        let issued = |text: &str| json!({"status": {"certificate": text}});
        assert_eq!(errors(&issued("b"), &issued("a")), 1);
        assert_eq!(errors(&issued("a"), &issued("a")), 0);
        // A signer who says that a request is approved is not heard; one who says that it failed is.
        let mut new = of(&["Failed", "Approved"]);
        keep_verdict(&mut new, &of(&[]));
        assert_eq!(new, of(&["Failed"]));
        let mut new = of(&["Failed"]);
        keep_verdict(&mut new, &of(&["Denied"]));
        assert_eq!(new, of(&["Denied", "Failed"]));
    }
}
