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
    token_attributes: Option<Value>,
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
    if entry.token_attributes.is_some() {
        let what = (format!("{field}.tokenAttributes"), "a service-account token for a plugin".to_owned());
        return Err(ConfigurationError::NotSupported(vec![what]));
    }
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
        check(
            "args: [get]",
            "tokenAttributes: {cacheType: Token}",
            "tokenAttributes: a service-account token",
        );
        assert!(with(&format!("{GOOD}{GOOD}")).unwrap_err().contains("is there twice"));
        assert!(with("  []").unwrap_err().contains("at least one provider"));
    }
}
