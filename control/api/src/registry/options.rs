//! What the query (and the body of a DELETE) says about how to do it.

use coracle_apimachinery::{FieldError, Path, Status};
use coracle_schema::json::FieldValidation as Validation;
use serde_json::Value;

use crate::error::{ApiError, Outcome};
use crate::http::info::Query;

/// Options of writes.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Do everything but the write.
    pub dry_run: bool,
    /// Who manages the fields.
    pub manager: String,
    /// Take fields from other managers.
    pub force: bool,
    /// What to do about unknown and duplicate fields.
    pub validation: Validation,
    /// The write is a server-side apply, which keeps its own books.
    pub applied: bool,
}

impl WriteOptions {
    /// From the query; `kind` names the options type in complaints, e.g. `CreateOptions`.
    pub fn parse(query: &Query, user_agent: &str, kind: &str) -> Outcome<Self> {
        let mut errors = Vec::new();
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let validation = match query.get("fieldValidation") {
            None | Some("Warn") => Validation::Warn,
            Some("Ignore") => Validation::Ignore,
            Some("Strict") => Validation::Strict,
            Some(other) => {
                errors.push(FieldError::not_supported(
                    &Path::new("fieldValidation"),
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                ));
                Validation::Warn
            }
        };
        if query.get("fieldManager").is_some_and(|manager| manager.len() > 128) {
            errors.push(FieldError::too_long(&Path::new("fieldManager"), 128));
        }
        refuse(kind, &errors)?;
        let manager = query.get("fieldManager").map_or_else(|| default_manager(user_agent), str::to_owned);
        Ok(Self { dry_run, manager, force: query.flag("force"), validation, applied: false })
    }
}

fn default_manager(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let name = if name.is_empty() { "unknown" } else { name };
    name.chars().filter(|c| !c.is_control()).take(128).collect()
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let mut all = false;
    for value in values.filter(|value| !value.is_empty()) {
        if value == "All" {
            all = true;
        } else {
            errors.push(FieldError::not_supported(&Path::new("dryRun"), value, &["All"]));
        }
    }
    all
}

fn refuse(kind: &str, errors: &[FieldError]) -> Outcome<()> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", kind, "", errors).into()) }
}

/// What happens to dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They go later.
    Background,
    /// They go first.
    Foreground,
}

/// Options of deletions.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Do everything but the write.
    pub dry_run: bool,
    /// Seconds; `None`: the kind's own.
    pub grace: Option<i64>,
    /// What happens to dependents; `None`: the kind's own.
    pub propagation: Option<Propagation>,
    /// Only this object.
    pub uid: Option<String>,
    /// Only at this revision.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// From the query and the decoded body.
    pub fn parse(query: &Query, body: Option<&Value>) -> Outcome<Self> {
        let mut errors = Vec::new();
        let empty = Value::Null;
        let body = body.unwrap_or(&empty);
        let in_body = body.get("dryRun").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let dry_run =
            dry_run(in_body.iter().filter_map(Value::as_str).chain(query.all("dryRun")), &mut errors);
        let grace = body
            .get("gracePeriodSeconds")
            .and_then(Value::as_i64)
            .or_else(|| query.number("gracePeriodSeconds"));
        let policy =
            body.get("propagationPolicy").and_then(Value::as_str).or_else(|| query.get("propagationPolicy"));
        let orphan = body
            .get("orphanDependents")
            .and_then(Value::as_bool)
            .or_else(|| query.get("orphanDependents").map(|value| value == "true" || value == "1"));
        let propagation = match (policy, orphan) {
            (Some(_), Some(_)) => {
                errors.push(FieldError::invalid(
                    &Path::new("propagationPolicy"),
                    policy.unwrap_or_default(),
                    "orphanDependents and deletionPropagation cannot be both set",
                ));
                None
            }
            (Some("Orphan"), None) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), None) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), None) => Some(Propagation::Foreground),
            (Some(other), None) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported(&Path::new("propagationPolicy"), other, &known));
                None
            }
            (None, None) => None,
        };
        refuse("DeleteOptions", &errors)?;
        let condition = |name: &str| {
            body.pointer(&format!("/preconditions/{name}")).and_then(Value::as_str).map(str::to_owned)
        };
        Ok(Self {
            dry_run,
            grace,
            propagation,
            uid: condition("uid"),
            resource_version: condition("resourceVersion"),
        })
    }
}

/// Which moment a list or watch wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The newest there is.
    Latest,
    /// Whatever is at hand.
    Any,
    /// This revision or a newer one.
    NotOlderThan(i64),
    /// Exactly this revision.
    Exact(i64),
}

/// Options of lists and watches.
#[derive(Debug, Clone)]
pub struct ListOptions {
    /// Which moment.
    pub moment: Moment,
    /// At most so many; 0: all.
    pub limit: usize,
    /// Where to go on.
    pub token: Option<String>,
    /// Seconds until a watch ends.
    pub timeout: Option<u64>,
    /// Whether bookmarks may be sent.
    pub bookmarks: bool,
    /// Whether a watch starts with what there is; `None`: as the revision says.
    pub initial: Option<bool>,
}

impl ListOptions {
    /// From the query.
    pub fn parse(query: &Query, watch: bool) -> Outcome<Self> {
        let raw = query.get("resourceVersion").unwrap_or_default();
        let matching = query.get("resourceVersionMatch").unwrap_or_default();
        let initial = query.has("sendInitialEvents").then(|| query.flag("sendInitialEvents"));
        let limit = match query.get("limit") {
            None => 0,
            Some(limit) => limit
                .parse::<i64>()
                .map_err(|_| {
                    ApiError::bad_request(format!("strconv.ParseInt: parsing {limit:?}: invalid syntax"))
                })?
                .max(0) as usize,
        };
        let token = query.get("continue").map(str::to_owned);
        let errors = check_versions(raw, matching, watch, initial, token.is_some());
        refuse("ListOptions", &errors)?;
        let number = || raw.parse::<i64>().ok().filter(|n| *n >= 0);
        let moment = match (raw, matching) {
            ("", _) => Moment::Latest,
            ("0", _) => Moment::Any,
            _ => {
                let n = number().ok_or_else(|| bad_version(raw))?;
                match matching {
                    "Exact" => Moment::Exact(n),
                    "" if limit > 0 && !watch => Moment::Exact(n),
                    _ => Moment::NotOlderThan(n),
                }
            }
        };
        Ok(Self {
            moment,
            limit,
            token,
            timeout: query.number("timeoutSeconds").and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0),
            bookmarks: query.flag("allowWatchBookmarks"),
            initial,
        })
    }
}

fn bad_version(raw: &str) -> ApiError {
    let why = format!("strconv.ParseUint: parsing {raw:?}: invalid syntax");
    let error = FieldError::invalid(&Path::new("resourceVersion"), raw, why);
    ApiError::bad_request(format!("invalid resource version {raw:?}: {error}"))
}

fn check_versions(
    raw: &str,
    matching: &str,
    watch: bool,
    initial: Option<bool>,
    token: bool,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("resourceVersionMatch");
    if watch {
        match initial {
            Some(_) if matching != "NotOlderThan" => errors.push(FieldError::forbidden(
                &path,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            None if !matching.is_empty() => errors.push(FieldError::forbidden(
                &path,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
            _ => {}
        }
        return errors;
    }
    if initial.is_some() {
        errors.push(FieldError::forbidden(
            &Path::new("sendInitialEvents"),
            "sendInitialEvents is forbidden for list",
        ));
    }
    if matching.is_empty() {
        return errors;
    }
    if raw.is_empty() {
        errors.push(FieldError::forbidden(
            &path,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ));
    }
    if token {
        errors.push(FieldError::forbidden(
            &path,
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    if !matches!(matching, "Exact" | "NotOlderThan") {
        errors.push(FieldError::not_supported(&path, matching, &["Exact", "NotOlderThan", ""]));
    }
    if matching == "Exact" && raw == "0" {
        errors.push(FieldError::forbidden(
            &path,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ));
    }
    errors
}
