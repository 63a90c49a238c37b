//! Why a runtime's network is not ready: which CNI file, and what is wrong with it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The folder of CNI configurations, from the runtime's verbose status.
pub(super) fn conf_dir(info: &std::collections::HashMap<String, String>) -> PathBuf {
    let read = |key: &str, pointer: &str| {
        let value: Value = serde_json::from_str(info.get(key)?).ok()?;
        value.pointer(pointer)?.as_str().map(PathBuf::from)
    };
    read("cniconfig", "/PluginConfDir")
        .or_else(|| read("config", "/cni/confDir"))
        .unwrap_or_else(|| "/etc/cni/net.d".into())
}

/// The first file that the runtime would read, if something is wrong with it: `<file>: <why>`. Blocking.
pub(super) fn problem(dir: &Path) -> Option<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Some(format!("{}: no such folder", dir.display())) };
    let is_conf =
        |it: &PathBuf| it.extension().is_some_and(|it| it == "conf" || it == "conflist" || it == "json");
    let mut files: Vec<PathBuf> = entries.flatten().map(|it| it.path()).filter(is_conf).collect();
    files.sort();
    let Some(file) = files.first() else {
        return Some(format!("{}: no CNI configuration file", dir.display()));
    };
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(err) => return Some(format!("{}: {err}", file.display())),
    };
    check(&text, file.extension().is_some_and(|it| it == "conflist"))
        .map(|why| format!("{}: {why}", file.display()))
}

fn check(text: &str, is_list: bool) -> Option<String> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(err) => return Some(format!("not valid JSON: {err}")),
    };
    let named = |it: &Value, field: &str| it[field].as_str().is_some_and(|it| !it.is_empty());
    if !named(&value, "name") {
        return Some("has no name".to_owned());
    }
    if !is_list {
        return (!named(&value, "type")).then(|| "has no type".to_owned());
    }
    match value["plugins"].as_array() {
        None => Some("has no list of plugins".to_owned()),
        Some(plugins) if plugins.is_empty() => Some("its list of plugins is empty".to_owned()),
        Some(plugins) => {
            plugins.iter().position(|it| !named(it, "type")).map(|at| format!("plugins[{at}] has no type"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_and_its_fault_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let run = |name: &str, text: &str, want: Option<&str>| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            let want = want.map(|it| format!("{}: {it}", path.display()));
            assert_eq!(problem(dir.path()), want, "{text}");
        };
        assert!(problem(dir.path()).unwrap().ends_with("no CNI configuration file"));
        run("10-a.conflist", r#"{"name":"a","plugins":[{"type":"bridge"}]}"#, None);
        run("10-a.conflist", "{", Some("not valid JSON: EOF while parsing an object at line 1 column 1"));
        run("10-a.conflist", r#"{"plugins":[]}"#, Some("has no name"));
        run("10-a.conflist", r#"{"name":"a","plugins":[{"type":"x"},{}]}"#, Some("plugins[1] has no type"));
        run("05-b.conf", r#"{"name":"b"}"#, Some("has no type"));
    }

    #[test]
    fn the_folder_is_the_runtimes() {
        let info = |key: &str, text: &str| [(key.to_owned(), text.to_owned())].into();
        assert_eq!(conf_dir(&info("cniconfig", r#"{"PluginConfDir":"/x"}"#)), Path::new("/x"));
        assert_eq!(conf_dir(&info("config", r#"{"cni":{"confDir":"/y"}}"#)), Path::new("/y"));
        assert_eq!(conf_dir(&info("config", "?")), Path::new("/etc/cni/net.d"));
    }
}
