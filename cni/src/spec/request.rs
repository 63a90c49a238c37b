//! Command and environment of one call of a plugin.

use super::error::{CniError, Code};
use std::path::PathBuf;

/// What a plugin is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Attach a container to the network.
    Add,
    /// Take the attachment away.
    Del,
    /// Is the attachment still as it was made?
    Check,
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Could an ADD be served now?
    Status,
    /// Which versions are spoken?
    Version,
}

impl Command {
    /// The word in CNI_COMMAND.
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    fn parse(text: &str) -> Option<Command> {
        [Command::Add, Command::Del, Command::Check, Command::Gc, Command::Status, Command::Version]
            .into_iter()
            .find(|command| command.as_str() == text)
    }
}

/// One call: the environment, checked, and the configuration's bytes.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// The container; empty where the command needs none.
    pub container_id: String,
    /// Its network namespace; DEL may come without.
    pub netns: Option<PathBuf>,
    /// The name of the interface inside; empty where the command needs none.
    pub ifname: String,
    /// Extra arguments as given: `K=V;K=V`.
    pub args: String,
    /// Folders with plugins.
    pub path: Vec<PathBuf>,
    /// The network configuration.
    pub stdin: Vec<u8>,
}

impl Request {
    /// Reads the environment through `var`; nothing else does.
    pub fn from_env(var: impl Fn(&str) -> Option<String>, stdin: Vec<u8>) -> Result<Request, CniError> {
        let given = |name: &str| var(name).filter(|value| !value.is_empty());
        let word = given("CNI_COMMAND").ok_or_else(|| missing("CNI_COMMAND", "any call"))?;
        let command = Command::parse(&word).ok_or_else(|| {
            CniError::new(Code::InvalidEnvironment, format!("CNI_COMMAND {word:?} is unknown"))
                .details("one of ADD, DEL, CHECK, GC, STATUS, VERSION")
        })?;
        let request = Request {
            command,
            container_id: given("CNI_CONTAINERID").unwrap_or_default(),
            netns: given("CNI_NETNS").map(PathBuf::from),
            ifname: given("CNI_IFNAME").unwrap_or_default(),
            args: given("CNI_ARGS").unwrap_or_default(),
            path: given("CNI_PATH").map(|text| std::env::split_paths(&text).collect()).unwrap_or_default(),
            stdin,
        };
        request.validate()?;
        Ok(request)
    }

    /// The value of `key` in the extra arguments.
    pub fn arg(&self, key: &str) -> Option<&str> {
        self.args.split(';').find_map(|pair| pair.split_once('=').filter(|it| it.0 == key).map(|it| it.1))
    }

    fn validate(&self) -> Result<(), CniError> {
        let (attachment, netns) = match self.command {
            Command::Add | Command::Check => (true, true),
            Command::Del => (true, false),
            Command::Gc | Command::Status | Command::Version => (false, false),
        };
        let command = self.command.as_str();
        if attachment && self.container_id.is_empty() {
            return Err(missing("CNI_CONTAINERID", command));
        }
        if netns && self.netns.is_none() {
            return Err(missing("CNI_NETNS", command));
        }
        if attachment && self.ifname.is_empty() {
            return Err(missing("CNI_IFNAME", command));
        }
        if attachment {
            valid_container_id(&self.container_id)?;
            valid_ifname(&self.ifname)?;
        }
        Ok(())
    }
}

fn missing(name: &str, command: &str) -> CniError {
    CniError::new(Code::InvalidEnvironment, format!("{name} is not set, but {command} needs it"))
}

fn valid_container_id(id: &str) -> Result<(), CniError> {
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.chars().all(rest) {
        return Ok(());
    }
    Err(CniError::new(Code::InvalidEnvironment, format!("CNI_CONTAINERID {id:?} is not valid"))
        .details("it starts with a letter or digit, followed by letters, digits, '_', '.' or '-'"))
}

fn valid_ifname(name: &str) -> Result<(), CniError> {
    let bad = if name.len() > 15 {
        "it is longer than 15 characters"
    } else if name == "." || name == ".." {
        "it is . or .."
    } else if name.contains(|c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control()) {
        "it contains '/', ':' or white space"
    } else {
        return Ok(());
    };
    Err(CniError::new(Code::InvalidEnvironment, format!("CNI_IFNAME {name:?} is not valid")).details(bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, CniError> {
        let var = |name: &str| {
            text.split_whitespace().find_map(|pair| {
                let (key, value) = pair.split_once('=').unwrap();
                (name == format!("CNI_{key}")).then(|| value.to_owned())
            })
        };
        Request::from_env(var, vec![])
    }

    #[test]
    fn what_each_command_needs() {
        let check = |env: &str, wanted: Result<(), &str>| {
            let got = read(env).map(drop).map_err(|err| err.to_string());
            match (&got, wanted) {
                (Ok(()), Ok(())) => {}
                (Err(text), Err(part)) if text.contains(part) => {}
                _ => panic!("{env}: {got:?}, wanted {wanted:?}"),
            }
        };
        check("COMMAND=ADD CONTAINERID=a NETNS=/n IFNAME=eth0", Ok(()));
        check("COMMAND=DEL CONTAINERID=a IFNAME=eth0", Ok(()));
        check("COMMAND=GC PATH=/bin", Ok(()));
        check("COMMAND=STATUS", Ok(()));
        check("COMMAND=VERSION", Ok(()));
        check("", Err("CNI_COMMAND is not set"));
        check("COMMAND=NOPE", Err("\"NOPE\" is unknown"));
        check("COMMAND=ADD CONTAINERID=a IFNAME=eth0", Err("CNI_NETNS is not set, but ADD needs it"));
        check("COMMAND=CHECK CONTAINERID=a NETNS=/n", Err("CNI_IFNAME is not set"));
        check("COMMAND=DEL IFNAME=eth0", Err("CNI_CONTAINERID is not set"));
        check("COMMAND=DEL CONTAINERID=-a IFNAME=eth0", Err("CNI_CONTAINERID \"-a\" is not valid"));
        check("COMMAND=DEL CONTAINERID=a IFNAME=averyveryverylong", Err("longer than 15"));
        check("COMMAND=DEL CONTAINERID=a IFNAME=a/b", Err("contains '/'"));
    }

    #[test]
    fn extra_arguments() {
        let request = read("COMMAND=STATUS ARGS=IgnoreUnknown=1;IP=10.0.0.7;K8S_POD_NAME=a=b").unwrap();
        assert_eq!(request.arg("IP"), Some("10.0.0.7"));
        assert_eq!(request.arg("K8S_POD_NAME"), Some("a=b"));
        assert_eq!(request.arg("MAC"), None);
    }
}
