//! Which form an answer takes: JSON, protobuf or YAML; the object itself, a table, or its metadata alone.

/// The wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
    /// `application/yaml`.
    Yaml,
}

impl Media {
    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::Yaml => "application/yaml",
        }
    }
}

/// What is shown of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// All of it.
    Object,
    /// Rows of a table (`as=Table`).
    Table,
    /// Its metadata (`as=PartialObjectMetadata` and `...List`).
    Metadata,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Wire form.
    pub media: Media,
    /// What is shown.
    pub show: Show,
}

/// JSON, whole objects.
pub const PLAIN: Form = Form { media: Media::Json, show: Show::Object };

/// Whether a clause of `Accept` asks for aggregated discovery.
pub fn wants_aggregated(accept: Option<&str>) -> bool {
    let Some(accept) = accept else { return false };
    for clause in accept.split(',') {
        let params: Vec<&str> = clause.split(';').map(str::trim).collect();
        if params.contains(&"as=APIGroupDiscoveryList") {
            if params.contains(&"v=v2") {
                return params[0] == "application/json" || params[0] == "*/*";
            }
            continue;
        }
        if matches!(params[0], "application/json" | "*/*" | "application/*") {
            return false;
        }
    }
    false
}

/// The first clause of an `Accept` header that can be served; `None` when there is none (406).
pub fn form(accept: Option<&str>) -> Option<Form> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return Some(PLAIN) };
    let mut clauses: Vec<(f32, Form)> = Vec::new();
    for clause in accept.split(',') {
        let mut params = clause.split(';').map(str::trim);
        let media = match params.next().unwrap_or_default() {
            "application/json" | "*/*" | "application/*" => Media::Json,
            "application/vnd.kubernetes.protobuf" => Media::Protobuf,
            "application/yaml" => Media::Yaml,
            _ => continue,
        };
        let (mut show, mut group, mut version, mut quality, mut known) = (Show::Object, "", "", 1.0, true);
        for param in params {
            match param.split_once('=') {
                Some(("as", "Table")) => show = Show::Table,
                Some(("as", "PartialObjectMetadata" | "PartialObjectMetadataList")) => show = Show::Metadata,
                Some(("as", _)) => known = false,
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                Some(("q", value)) => quality = value.parse().unwrap_or(1.0),
                _ => {}
            }
        }
        if show != Show::Object && !(group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1")) {
            known = false;
        }
        if known {
            clauses.push((quality, Form { media, show }));
        }
    }
    // Stable: of equal quality, the first wins.
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    clauses.first().map(|(_, form)| *form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, want: Option<(Media, Show)>) {
        assert_eq!(form(Some(accept)).map(|f| (f.media, f.show)), want, "{accept}");
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        use Media::{Json, Protobuf, Yaml};
        use Show::{Metadata, Object, Table};
        check("application/json", Some((Json, Object)));
        check("", Some((Json, Object)));
        check("*/*", Some((Json, Object)));
        check("application/vnd.kubernetes.protobuf,application/json", Some((Protobuf, Object)));
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some((Json, Table)));
        check("application/json;as=Other;v=v1;g=meta.k8s.io,application/json", Some((Json, Object)));
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Some((Protobuf, Metadata)),
        );
        check("application/yaml", Some((Yaml, Object)));
        check("text/html", None);
    }

    #[test]
    fn aggregated_discovery_is_told_from_the_old_one() {
        assert!(wants_aggregated(Some(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
        )));
        assert!(!wants_aggregated(Some("application/json")));
        assert!(!wants_aggregated(None));
    }
}
