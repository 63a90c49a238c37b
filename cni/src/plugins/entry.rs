//! From the process to a plugin and back: name, environment, input; result or error on standard output.

use super::{
    bandwidth, bridge, dummy, firewall, fixed, flannel, host_device, host_local, ipvlan, loopback, macvlan,
    portmap, ptp, sbr, tuning, vlan,
};
use crate::netlink::Mac;
use crate::netns::Netns;
use crate::spec::{
    AddResult, AttachmentId, CniError, Code, Command, Common, Explain, Request, SUPPORTED, Version,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

/// The plugins that we have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Traffic held to a rate.
    Bandwidth,
    /// A bridge on the host, a link pair per container.
    Bridge,
    /// A link that leads nowhere.
    Dummy,
    /// Packets of containers past the host's firewall.
    Firewall,
    /// Another plugin, configured by what flannel found out.
    Flannel,
    /// A device of the host, moved into the container.
    HostDevice,
    /// Addresses from ranges, leased in files.
    HostLocal,
    /// A link of its own on a device of the host, told apart by address.
    Ipvlan,
    /// The container's own lo.
    Loopback,
    /// A link of its own on a device of the host, told apart by hardware address.
    Macvlan,
    /// Ports of the host that lead to containers.
    Portmap,
    /// A link pair, routed.
    Ptp,
    /// Routing by source address.
    Sbr,
    /// Addresses as they are written in the configuration.
    Static,
    /// Settings of an interface.
    Tuning,
    /// The packets with one VLAN tag of a device of the host.
    Vlan,
}

impl Kind {
    /// All plugins, by name.
    pub const ALL: [Kind; 16] = [
        Kind::Bandwidth,
        Kind::Bridge,
        Kind::Dummy,
        Kind::Firewall,
        Kind::Flannel,
        Kind::HostDevice,
        Kind::HostLocal,
        Kind::Ipvlan,
        Kind::Loopback,
        Kind::Macvlan,
        Kind::Portmap,
        Kind::Ptp,
        Kind::Sbr,
        Kind::Static,
        Kind::Tuning,
        Kind::Vlan,
    ];

    /// The name of the binary, as configurations have it in `type`.
    pub fn as_str(self) -> &'static str {
        self.entry().0
    }

    /// The plugin of that name.
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    fn entry(self) -> (&'static str, &'static dyn Plugin) {
        match self {
            Kind::Bandwidth => ("bandwidth", &bandwidth::Bandwidth),
            Kind::Bridge => ("bridge", &bridge::Bridge),
            Kind::Dummy => ("dummy", &dummy::Dummy),
            Kind::Firewall => ("firewall", &firewall::Firewall),
            Kind::Flannel => ("flannel", &flannel::Flannel),
            Kind::HostDevice => ("host-device", &host_device::HostDevice),
            Kind::HostLocal => ("host-local", &host_local::HostLocal),
            Kind::Ipvlan => ("ipvlan", &ipvlan::Ipvlan),
            Kind::Loopback => ("loopback", &loopback::Loopback),
            Kind::Macvlan => ("macvlan", &macvlan::Macvlan),
            Kind::Portmap => ("portmap", &portmap::Portmap),
            Kind::Ptp => ("ptp", &ptp::Ptp),
            Kind::Sbr => ("sbr", &sbr::Sbr),
            Kind::Static => ("static", &fixed::Static),
            Kind::Tuning => ("tuning", &tuning::Tuning),
            Kind::Vlan => ("vlan", &vlan::Vlan),
        }
    }
}

/// One plugin: what each command does.
pub trait Plugin {
    /// Makes the attachment; on failure nothing of it is left.
    fn add(&self, call: &Call) -> Result<AddResult, CniError>;
    /// Takes the attachment away, whatever of it is there.
    fn del(&self, call: &Call) -> Result<(), CniError>;
    /// Is the attachment as `add` made it?
    fn check(&self, call: &Call) -> Result<(), CniError>;
    /// Removes what belongs to none of the valid attachments.
    fn gc(&self, call: &Call) -> Result<(), CniError>;
    /// Could an ADD be served now?
    fn status(&self, call: &Call) -> Result<(), CniError>;
}

/// One call of a plugin, with the part of its configuration that all have.
#[derive(Debug)]
pub struct Call<'a> {
    /// Environment and input.
    pub request: &'a Request,
    /// The common part of the configuration.
    pub common: Common,
}

impl Call<'_> {
    /// The plugin's own view of the configuration.
    pub fn conf<T: DeserializeOwned>(&self) -> Result<T, CniError> {
        serde_json::from_slice(&self.request.stdin)
            .explain(Code::Decode, || format!("decode the configuration of network {}", self.common.name))
    }

    /// The container's namespace, which must be there.
    pub fn netns(&self) -> Result<Netns, CniError> {
        let path = self.netns_path()?;
        self.netns_if_present()?.ok_or_else(|| {
            CniError::new(Code::UnknownContainer, format!("no network namespace at {}", path.display()))
                .details(format!("container {}", self.request.container_id))
        })
    }

    /// The container's namespace, unless it is gone already.
    pub fn netns_if_present(&self) -> Result<Option<Netns>, CniError> {
        let Some(path) = &self.request.netns else { return Ok(None) };
        Netns::open(path).explain(Code::Io, || format!("open network namespace {}", path.display()))
    }

    /// What the plugins before made; CHECK and chained plugins cannot do without.
    pub fn prev_result(&self) -> Result<AddResult, CniError> {
        self.common.prev_result()?.ok_or_else(|| {
            let command = self.request.command.as_str();
            CniError::new(Code::InvalidConfig, format!("{command} of {} needs prevResult", self.common.kind))
        })
    }

    /// Which container's which interface.
    pub fn attachment(&self) -> AttachmentId {
        AttachmentId { container_id: self.request.container_id.clone(), ifname: self.request.ifname.clone() }
    }

    /// The hardware address that is asked for: by the runtime, else by `args` of the configuration, else by CNI_ARGS.
    pub fn wanted_mac(&self, from_args: Option<String>) -> Result<Option<Mac>, CniError> {
        let text = self.common.runtime_config.mac.clone().or(from_args);
        let text = text.or_else(|| self.request.arg("MAC").map(str::to_owned)).filter(|it| !it.is_empty());
        text.map(|it| it.parse()).transpose().map_err(|err: String| CniError::new(Code::InvalidConfig, err))
    }

    /// The namespace's path as results name it.
    pub fn sandbox(&self) -> String {
        self.request.netns.as_deref().map(|path| path.display().to_string()).unwrap_or_default()
    }

    fn netns_path(&self) -> Result<&Path, CniError> {
        self.request
            .netns
            .as_deref()
            .ok_or_else(|| CniError::new(Code::InvalidEnvironment, "CNI_NETNS is not set"))
    }
}

/// Serves one request; the value, if any, is what goes to standard output.
pub fn call(kind: Kind, request: &Request) -> Result<Option<Value>, CniError> {
    if request.command == Command::Version {
        return Ok(Some(
            json!({"cniVersion": SUPPORTED[SUPPORTED.len() - 1], "supportedVersions": SUPPORTED}),
        ));
    }
    let common = Common::read(&request.stdin)?;
    let version = common.version()?;
    common.validate_name()?;
    allowed(request.command, version)?;
    let (plugin, call) = (kind.entry().1, Call { request, common });
    match request.command {
        Command::Add => return plugin.add(&call).map(|result| Some(result.to_json(version))),
        Command::Del => plugin.del(&call)?,
        Command::Check => plugin.check(&call)?,
        Command::Gc => plugin.gc(&call)?,
        Command::Status => plugin.status(&call)?,
        Command::Version => {}
    }
    Ok(None)
}

fn allowed(command: Command, version: Version) -> Result<(), CniError> {
    let since = match command {
        Command::Check => Version::V0_4_0,
        Command::Gc | Command::Status => Version::V1_1_0,
        Command::Add | Command::Del | Command::Version => return Ok(()),
    };
    if version >= since {
        return Ok(());
    }
    let msg = format!("cniVersion {version} has no {}, which came with {since}", command.as_str());
    Err(CniError::new(Code::IncompatibleVersion, msg))
}

/// The whole program: the name it was called by, or its first argument, is the plugin.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let name = Path::new(&name).file_name().and_then(|it| it.to_str()).unwrap_or_default().to_owned();
    let first = arguments.next();
    if let (Some("install"), Some(dir)) = (first.as_deref(), arguments.next()) {
        return installed(Path::new(&dir));
    }
    let Some(kind) = Kind::parse(&name).or_else(|| first.as_deref().and_then(Kind::parse)) else {
        let names = Kind::ALL.map(Kind::as_str).join(", ");
        eprintln!(
            "coracle-cni: call it by the name of a plugin ({names}), or as `coracle-cni install FOLDER`"
        );
        return ExitCode::FAILURE;
    };
    let var = |name: &str| std::env::var(name).ok();
    if var("CNI_COMMAND").is_none() {
        eprintln!("coracle-cni {} (CNI plugin)", kind.as_str());
        eprintln!("versions: {}", SUPPORTED.map(Version::as_str).join(", "));
    }
    match serve(kind, var) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(value)) => print(&value, ExitCode::SUCCESS),
        Err((version, err)) => print(&err.to_json(version), ExitCode::FAILURE),
    }
}

fn serve(kind: Kind, var: impl Fn(&str) -> Option<String>) -> Result<Option<Value>, (Version, CniError)> {
    let newest = SUPPORTED[SUPPORTED.len() - 1];
    let mut stdin = Vec::new();
    if var("CNI_COMMAND").is_some_and(|command| command != "VERSION") {
        let read = std::io::stdin().read_to_end(&mut stdin);
        read.explain(Code::Io, || "read the configuration from standard input".into())
            .map_err(|err| (newest, err))?;
    }
    let request = Request::from_env(var, stdin).map_err(|err| (newest, err))?;
    // An error is printed in the version of the configuration, where that can be read.
    let version =
        || Common::read(&request.stdin).ok().and_then(|common| common.version().ok()).unwrap_or(newest);
    call(kind, &request).map_err(|err| (version(), err))
}

fn installed(dir: &Path) -> ExitCode {
    match crate::install(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!(
                "coracle-cni: {err}: {}",
                std::error::Error::source(&err).map(ToString::to_string).unwrap_or_default()
            );
            ExitCode::FAILURE
        }
    }
}

fn print(value: &Value, code: ExitCode) -> ExitCode {
    let mut text = value.to_string();
    text.push('\n');
    // A runtime that does not read cannot be told.
    if std::io::stdout().write_all(text.as_bytes()).is_ok() { code } else { ExitCode::FAILURE }
}
