//! Objects to files: keys, items, modes.

use k8s_openapi::api::core::v1::KeyToPath;

use crate::objects::Token;
use crate::volume::atomic::{File, Files};

/// Which keys of an object are wanted, and where.
pub(super) struct Items<'a> {
    pub(super) list: Option<&'a [KeyToPath]>,
    /// Keys that are not there are left out.
    pub(super) optional: bool,
    /// The object's word in sentences.
    pub(super) kind: &'static str,
}

/// The files of one volume; a later source goes over an earlier one.
pub(super) struct Payload {
    pub(super) files: Files,
    /// When the first token in it is too old.
    pub(super) renew_at: Option<jiff::Timestamp>,
    default_mode: i32,
}

impl Payload {
    pub(super) fn new(default_mode: i32) -> Self {
        Self { files: Files::new(), renew_at: None, default_mode }
    }

    /// A file with its own mode or the volume's.
    pub(super) fn add(&mut self, path: &str, data: Vec<u8>, mode: Option<i32>) {
        let mode = mode.unwrap_or(self.default_mode).unsigned_abs() & 0o777;
        self.files.insert(path.to_owned(), File { data, mode, uid: None });
    }

    /// An object's keys: all of them, or the items that are asked for.
    pub(super) fn add_keys<'k>(
        &mut self,
        keys: impl Iterator<Item = (&'k String, &'k [u8])>,
        items: &Items<'_>,
    ) -> Result<(), String> {
        let Some(list) = items.list.filter(|it| !it.is_empty()) else {
            keys.for_each(|(key, data)| self.add(key, data.to_vec(), None));
            return Ok(());
        };
        let all: std::collections::BTreeMap<&str, &[u8]> =
            keys.map(|(key, data)| (key.as_str(), data)).collect();
        for item in list {
            match all.get(item.key.as_str()) {
                Some(data) => self.add(&item.path, data.to_vec(), item.mode),
                None if items.optional => {}
                None => {
                    return Err(format!("{} references non-existent config key: {}", items.kind, item.key));
                }
            }
        }
        Ok(())
    }

    /// A token is for its pod's one user or group alone, where it has one.
    pub(super) fn add_token(&mut self, path: &str, token: Token, user: Option<u32>, has_group: bool) {
        self.add(path, token.token.into_bytes(), None);
        if let Some(file) = self.files.get_mut(path) {
            file.uid = user;
            if user.is_some() || has_group {
                file.mode = 0o600;
            }
        }
        self.renew_at = Some(self.renew_at.map_or(token.renew_at, |it| it.min(token.renew_at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(items: &str, optional: bool) -> Result<String, String> {
        let list: Vec<KeyToPath> = serde_json::from_str(items).unwrap();
        let keys = [("a".to_owned(), b"1".as_slice()), ("b".to_owned(), b"2".as_slice())];
        let mut payload = Payload::new(0o644);
        let items = Items { list: Some(&list), optional, kind: "configmap" };
        payload.add_keys(keys.iter().map(|(key, data)| (key, *data)), &items)?;
        let show = |(path, file): (&String, &File)| format!("{path}:{:o}", file.mode);
        Ok(payload.files.iter().map(show).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn items_choose_keys_paths_and_modes() {
        assert_eq!(run("[]", false).unwrap(), "a:644 b:644");
        assert_eq!(run(r#"[{"key":"b","path":"x/y","mode":256}]"#, false).unwrap(), "x/y:400");
        assert_eq!(run(r#"[{"key":"z","path":"x"}]"#, true).unwrap(), "");
        assert_eq!(
            run(r#"[{"key":"z","path":"x"}]"#, false).unwrap_err(),
            "configmap references non-existent config key: z"
        );
    }

    #[test]
    fn a_token_is_closed_to_others_where_its_user_is_known() {
        let check = |user: Option<u32>, group: bool, want: (Option<u32>, u32)| {
            let mut payload = Payload::new(0o644);
            let token = Token { token: "t".into(), renew_at: jiff::Timestamp::UNIX_EPOCH };
            payload.add_token("token", token, user, group);
            let file = &payload.files["token"];
            assert_eq!((file.uid, file.mode), want);
            assert_eq!(payload.renew_at, Some(jiff::Timestamp::UNIX_EPOCH));
        };
        check(None, false, (None, 0o644));
        check(Some(5), false, (Some(5), 0o600));
        check(None, true, (None, 0o600));
    }
}
