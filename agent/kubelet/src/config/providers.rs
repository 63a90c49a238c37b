//! `CredentialProviderConfig`: the programs that are asked for registry credentials.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_apimachinery::GoDuration;
use serde::Deserialize;
use serde_json::Value;

use super::ConfigurationError;
use crate::image::is_image_pattern;

const VERSIONS: [&str; 3] =
    ["kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"];
const SPOKEN: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialProvider {
    /// Its name: that of its file.
    pub name: String,
    /// Its file.
    pub program: PathBuf,
    /// Images that it is asked about: hosts with globs, ports, paths.
    pub match_images: Vec<String>,
    /// How long an answer is good that does not say so itself.
    pub default_cache: Duration,
    /// What it is spoken to in.
    pub api_version: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Put over the kubelet's own environment.
    pub env: Vec<(String, String)>,
    /// It is asked in the name of the pod's service account.
    pub token: Option<TokenAttributes>,
}

/// How a program is asked in the name of a pod's service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenAttributes {
    /// `serviceAccountTokenAudience`.
    pub audience: String,
    /// `cacheType` is Token: answers are good for one token, else for the account.
    pub by_token: bool,
    /// `requireServiceAccount`: of a pod without one it is not asked.
    pub required: bool,
    /// Annotations of the account without which it is not asked.
    pub required_annotations: Vec<String>,
    /// Annotations that it is told if there are any.
    pub optional_annotations: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Attributes {
    #[serde(default)]
    service_account_token_audience: String,
    #[serde(default)]
    cache_type: String,
    require_service_account: Option<bool>,
    #[serde(default)]
    required_service_account_annotation_keys: Vec<String>,
    #[serde(default)]
    optional_service_account_annotation_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    providers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    name: String,
    #[serde(default)]
    match_images: Vec<String>,
    default_cache_duration: Option<String>,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    token_attributes: Option<Attributes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    #[serde(default)]
    value: String,
}

/// Reads a file, or every `.json`, `.yaml` and `.yml` of a folder in the order of their names. The programs must be in
/// `programs`.
pub(super) fn read(config: &Path, programs: &Path) -> Result<Vec<CredentialProvider>, ConfigurationError> {
    let mut all: Vec<CredentialProvider> = Vec::new();
    for path in files(config)? {
        for entry in read_file(&path)? {
            let field = format!("providers[{}]", entry.name);
            if all.iter().any(|it| it.name == entry.name) {
                return Err(invalid(&field, "name", &entry.name, "is there twice"));
            }
            all.push(provider(entry, &field, programs)?);
        }
    }
    if all.is_empty() {
        return Err(invalid("providers", "", "[]", "must name at least one provider"));
    }
    Ok(all)
}

fn files(config: &Path) -> Result<Vec<PathBuf>, ConfigurationError> {
    if !config.is_dir() {
        return Ok(vec![config.to_owned()]);
    }
    let failed = |source| ConfigurationError::Read { path: config.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(config).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let known = path.extension().is_some_and(|it| it == "json" || it == "yaml" || it == "yml");
        if known && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read_file(path: &Path) -> Result<Vec<Entry>, ConfigurationError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigurationError::Read { path: path.to_owned(), source })?;
    let syntax = |message: String| ConfigurationError::Syntax { path: path.to_owned(), message };
    let value: Value = serde_saphyr::from_str(&text).map_err(|err| syntax(err.to_string()))?;
    let text_of = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text_of("apiVersion"), text_of("kind"));
    if !VERSIONS.contains(&version) || kind != "CredentialProviderConfig" {
        let message =
            format!("expected {} CredentialProviderConfig, found {version:?} {kind:?}", VERSIONS[0]);
        return Err(syntax(message));
    }
    let document: Document = serde_json::from_value(value).map_err(|err| syntax(err.to_string()))?;
    Ok(document.providers)
}

fn provider(entry: Entry, field: &str, programs: &Path) -> Result<CredentialProvider, ConfigurationError> {
    let name = entry.name;
    let is_word = !name.is_empty() && !name.contains(['/', '\\', ' ']) && name != "." && name != "..";
    if !is_word {
        return Err(invalid(field, "name", &name, "must be the name of a file, without spaces"));
    }
    if entry.match_images.is_empty() {
        return Err(invalid(field, "matchImages", "[]", "must name at least one pattern"));
    }
    if let Some(wrong) = entry.match_images.iter().find(|it| !is_image_pattern(it)) {
        return Err(invalid(field, "matchImages", wrong, "is no pattern of images"));
    }
    let given = entry.default_cache_duration.unwrap_or_default();
    let default_cache = GoDuration::parse(&given).ok().filter(|it| it.nanos() >= 0);
    let Some(default_cache) = default_cache else {
        return Err(invalid(field, "defaultCacheDuration", &given, "must be a duration, zero or more"));
    };
    if !SPOKEN.contains(&entry.api_version.as_str()) {
        return Err(invalid(
            field,
            "apiVersion",
            &entry.api_version,
            &format!("must be {}", SPOKEN.join(", ")),
        ));
    }
    let token = match entry.token_attributes {
        None => None,
        Some(_) if entry.api_version != SPOKEN[0] => {
            let reason = format!("is only for apiVersion {}", SPOKEN[0]);
            return Err(invalid(field, "tokenAttributes", &entry.api_version, &reason));
        }
        Some(given) => Some(token_attributes(given, &format!("{field}.tokenAttributes"))?),
    };
    let program = programs.join(&name);
    let runs =
        std::fs::metadata(&program).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    if !runs {
        let shown = program.display().to_string();
        return Err(invalid(field, "name", &shown, "there is no such program"));
    }
    Ok(CredentialProvider {
        name,
        program,
        match_images: entry.match_images,
        default_cache: default_cache.as_duration(),
        api_version: entry.api_version,
        args: entry.args,
        env: entry.env.into_iter().map(|it| (it.name, it.value)).collect(),
        token,
    })
}

fn token_attributes(given: Attributes, field: &str) -> Result<TokenAttributes, ConfigurationError> {
    let audience = given.service_account_token_audience;
    if audience.is_empty() {
        return Err(invalid(field, "serviceAccountTokenAudience", "", "must be given"));
    }
    let by_token = match given.cache_type.as_str() {
        "Token" => true,
        "ServiceAccount" => false,
        other => return Err(invalid(field, "cacheType", other, "must be ServiceAccount or Token")),
    };
    let Some(required) = given.require_service_account else {
        return Err(invalid(field, "requireServiceAccount", "", "must be given"));
    };
    let (must, may) =
        (given.required_service_account_annotation_keys, given.optional_service_account_annotation_keys);
    if !required && !must.is_empty() {
        let reason = "needs requireServiceAccount";
        return Err(invalid(field, "requiredServiceAccountAnnotationKeys", &must[0], reason));
    }
    let mut seen = std::collections::BTreeSet::new();
    for key in must.iter().chain(&may) {
        if let Some(reason) = coracle_apimachinery::names::qualified_name(key).into_iter().next() {
            return Err(invalid(field, "annotation keys", key, &reason));
        }
        if !seen.insert(key) {
            return Err(invalid(field, "annotation keys", key, "is there twice"));
        }
    }
    Ok(TokenAttributes {
        audience,
        by_token,
        required,
        required_annotations: must,
        optional_annotations: may,
    })
}

fn invalid(at: &str, field: &str, value: &str, reason: &str) -> ConfigurationError {
    let field = if field.is_empty() { at.to_owned() } else { format!("{at}.{field}") };
    ConfigurationError::Invalid { field, value: format!("{value:?}"), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(providers: &str) -> Result<Vec<CredentialProvider>, String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("ecr");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.path().join("config.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n";
        std::fs::write(&file, format!("{head}{providers}")).unwrap();
        // The folder holds one file of configuration and the program.
        let (of_file, of_folder) = (read(&file, folder.path()), read(folder.path(), folder.path()));
        assert_eq!(of_file.is_ok(), of_folder.is_ok());
        of_file.map_err(|it| it.to_string())
    }

    const GOOD: &str = "- {name: ecr, matchImages: ['*.dkr.ecr.*.amazonaws.com'], defaultCacheDuration: 12h, \
                        apiVersion: credentialprovider.kubelet.k8s.io/v1, args: [get], env: [{name: A, value: b}]}\n";

    #[test]
    fn a_provider() {
        let found = with(GOOD).unwrap();
        assert_eq!((found.len(), found[0].name.as_str()), (1, "ecr"));
        assert_eq!(found[0].default_cache, Duration::from_secs(12 * 3600));
        assert_eq!((found[0].args.len(), found[0].env[0].1.as_str()), (1, "b"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |from: &str, to: &str, want: &str| {
            let err = with(&GOOD.replace(from, to)).unwrap_err();
            assert!(err.contains(want), "{to}: {err}");
        };
        check("name: ecr", "name: gcr", "there is no such program");
        check("name: ecr", "name: ../ecr", "must be the name of a file");
        check("'*.dkr.ecr.*.amazonaws.com'", "'https://x'", "is no pattern of images");
        check("['*.dkr.ecr.*.amazonaws.com']", "[]", "at least one pattern");
        check("12h", "never", "must be a duration");
        check("kubelet.k8s.io/v1,", "kubelet.k8s.io/v2,", "must be credentialprovider");
        check("args: [get]", "arguments: [get]", "unknown field `arguments`");
        let token = |it: &str| format!("tokenAttributes: {{{it}}}");
        let whole = "serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: false";
        let found = with(&GOOD.replace("args: [get]", &token(whole))).unwrap();
        assert!(found[0].token.as_ref().is_some_and(|it| it.by_token && !it.required));
        check("args: [get]", &token("cacheType: Token"), "serviceAccountTokenAudience");
        check("args: [get]", &token(&whole.replace("Token,", "None,")), "must be ServiceAccount or Token");
        check("args: [get]", &token(&whole.replace(", requireServiceAccount: false", "")), "must be given");
        let keys = format!("{whole}, requiredServiceAccountAnnotationKeys: [a]");
        check("args: [get]", &token(&keys), "needs requireServiceAccount");
        let twice = format!("{whole}, optionalServiceAccountAnnotationKeys: [a, a]");
        check("args: [get]", &token(&twice), "is there twice");
        assert!(with(&format!("{GOOD}{GOOD}")).unwrap_err().contains("is there twice"));
        assert!(with("  []").unwrap_err().contains("at least one provider"));
    }
}
