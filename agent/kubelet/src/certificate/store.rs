//! Certificates with their keys in files: `<name>-<date>.pem`, and the link `<name>-current.pem` to the newest.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::wish::{NODES, malformed};
use super::{CertificateError, Wish};

/// A certificate chain with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// Both, in PEM.
    pub pem: String,
    /// From when it counts.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    common_name: String,
    organizations: Vec<String>,
    dns: Vec<String>,
    ips: Vec<IpAddr>,
    /// Spreads the renewals of many nodes.
    jitter: u8,
}

impl Pair {
    /// Reads the first certificate of the chain; the key must be one.
    pub fn parse(pem: &str, what: &str) -> Result<Self, CertificateError> {
        let first = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|err| malformed(what, &err))?;
        PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|err| malformed(what, &err))?;
        let (_, parsed) = X509Certificate::from_der(&first).map_err(|err| malformed(what, &err))?;
        let time = |it: i64| Timestamp::from_second(it).map_err(|err| malformed(what, &err));
        let text = |it: &x509_parser::x509::AttributeTypeAndValue<'_>| it.as_str().map(str::to_owned).ok();
        let (mut dns, mut ips) = (Vec::new(), Vec::new());
        let names = parsed.subject_alternative_name().ok().flatten();
        for name in names.iter().flat_map(|it| &it.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => ips.extend(ip(bytes)),
                _ => {}
            }
        }
        ips.sort_unstable();
        Ok(Self {
            pem: pem.to_owned(),
            not_before: time(parsed.validity().not_before.timestamp())?,
            not_after: time(parsed.validity().not_after.timestamp())?,
            common_name: parsed.subject().iter_common_name().find_map(text).unwrap_or_default(),
            organizations: parsed.subject().iter_organization().filter_map(text).collect(),
            dns,
            ips,
            jitter: parsed.raw_serial().last().copied().unwrap_or_default(),
        })
    }

    /// Whether it is what `wish` wants, whatever the time.
    pub fn suits(&self, wish: &Wish) -> bool {
        let named = |want: &[String]| want.iter().all(|it| self.dns.contains(it));
        self.common_name == wish.common_name
            && self.organizations.iter().any(|it| it == NODES)
            && named(&wish.dns)
            && wish.ips.iter().all(|it| self.ips.contains(it))
    }

    /// Whether it still counts.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// When to ask for the next: after 70 to 90 % of its life, by its serial number.
    pub fn renew_at(&self) -> Timestamp {
        let life =
            u64::try_from(self.not_after.as_second() - self.not_before.as_second()).unwrap_or_default();
        let part = Duration::from_secs(life).mul_f64(0.7 + 0.2 * f64::from(self.jitter) / 255.0);
        crate::pod::after(self.not_before, part)
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The files of one certificate. All calls block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateStore {
    folder: PathBuf,
    name: &'static str,
}

impl CertificateStore {
    /// Files called `name` in `folder`.
    pub fn new(folder: impl Into<PathBuf>, name: &'static str) -> Self {
        Self { folder: folder.into(), name }
    }

    /// The link to the newest.
    pub fn current_path(&self) -> PathBuf {
        self.folder.join(format!("{}-current.pem", self.name))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The newest pair; none yet is no error.
    pub fn current(&self) -> Result<Option<Pair>, CertificateError> {
        let path = self.current_path();
        match std::fs::read_to_string(&path) {
            Ok(pem) => Pair::parse(&pem, &path.display().to_string()).map(Some),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CertificateError::File { action: "read", path, source }),
        }
    }

    /// Keeps a pair and makes it the current one. The older ones stay, as upstream leaves them.
    pub fn put(&self, certificate: &str, key: &str, now: Timestamp) -> Result<Pair, CertificateError> {
        let pem = format!("{}\n{}\n", certificate.trim_end(), key.trim_end());
        let pair = Pair::parse(&pem, &self.current_path().display().to_string())?;
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| CertificateError::File { action, path, source }
        };
        std::fs::create_dir_all(&self.folder).map_err(failed("create", &self.folder))?;
        let date = now.to_zoned(TimeZone::system()).strftime("%Y-%m-%d-%H-%M-%S").to_string();
        let path = self.folder.join(format!("{}-{date}.pem", self.name));
        write_secret(&path, &pem)?;
        // The new link takes the old one's place at once: a reader sees the one or the other.
        let fresh = self.folder.join(format!("{}-updated.pem", self.name));
        match std::fs::remove_file(&fresh) {
            Ok(()) => {}
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
            Err(err) => return Err(failed("remove", &fresh)(err)),
        }
        std::os::unix::fs::symlink(&path, &fresh).map_err(failed("link", &fresh))?;
        std::fs::rename(&fresh, self.current_path()).map_err(failed("link", &self.current_path()))?;
        Ok(pair)
    }
}

/// Writes a file that only its owner reads, whole or not at all.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<(), CertificateError> {
    let failed = |source| CertificateError::File { action: "write", path: path.to_owned(), source };
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
    let written = open.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&part, path)).map_err(failed)
}
