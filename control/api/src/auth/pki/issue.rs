//! What a certificate holds, and whether an old one still does.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;

use super::Credential;

/// A certificate lives this long, and is renewed when less than [`RENEW_DAYS`] are left.
const LIFE_DAYS: i64 = 365;
const RENEW_DAYS: i64 = 90;
const AUTHORITY_DAYS: i64 = 3650;

/// Which side of a connection a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateUse {
    /// The side that is called.
    Server,
    /// The side that calls.
    Client,
}

/// What a certificate has to hold.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub common_name: String,
    /// One at most: what writes the certificate keeps one value of a kind in a subject.
    pub organization: Option<String>,
    pub names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub usage: CertificateUse,
}

impl Wanted {
    pub fn client(name: &str, organization: Option<String>) -> Self {
        Self { organization, usage: CertificateUse::Client, ..Self::serving(name) }
    }

    pub fn serving(name: &str) -> Self {
        Self {
            common_name: name.to_owned(),
            organization: None,
            names: Vec::new(),
            addresses: Vec::new(),
            usage: CertificateUse::Server,
        }
    }

    pub fn params(&self, today: Date) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&self.common_name, self.organization.as_deref());
        for name in sorted(&self.names) {
            params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        }
        for address in sorted(&self.addresses) {
            params.subject_alt_names.push(SanType::IpAddress(address));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![match self.usage {
            CertificateUse::Server => ExtendedKeyUsagePurpose::ServerAuth,
            CertificateUse::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, today, LIFE_DAYS);
        Ok(params)
    }
}

fn sorted<T: Ord + Clone>(values: &[T]) -> Vec<T> {
    let mut values = values.to_vec();
    values.sort();
    values.dedup();
    values
}

/// The day, in UTC.
pub(super) fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

/// From yesterday, so that a clock that is a little behind still accepts it.
fn set_validity(params: &mut CertificateParams, today: Date, days: i64) {
    let at = |date: Date| {
        let part = |value: i8| u8::try_from(value).unwrap_or(1);
        rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    params.not_before = at(today.saturating_sub(jiff::Span::new().days(1)));
    params.not_after = at(today.saturating_add(jiff::Span::new().days(days)));
}

fn subject(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, common_name);
    subject
}

pub(super) fn authority_params(today: Date) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("coracle-ca", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    set_validity(&mut params, today, AUTHORITY_DAYS);
    Ok(params)
}

/// Whether the key is the certificate's.
pub(super) fn belong_together(certificate_pem: &str, key: &KeyPair) -> bool {
    with_parsed(certificate_pem, |parsed| parsed.public_key().subject_public_key.data == key.public_key_raw())
        .unwrap_or(false)
}

fn with_parsed<T>(pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
    Some(read(&parsed))
}

/// Whether the credential is as wanted: names, subject, key, CA, and a good while to live.
pub(super) fn holds(old: &Credential, wanted: &Wanted, ca_pem: &str, today: Date) -> bool {
    let Ok(key) = KeyPair::from_pem(&old.key) else { return false };
    let authority = with_parsed(ca_pem, |ca| (subject_key(ca), ca.subject().to_string())).unwrap_or_default();
    belong_together(&old.certificate, &key)
        && with_parsed(&old.certificate, |parsed| {
            let names = alternative_names(parsed);
            let (subject, ends) = (parsed.subject(), parsed.validity().not_after.timestamp());
            (authority_key(parsed), parsed.issuer().to_string()) == authority
                && authority.0.is_some()
                && names == (sorted(&wanted.names), sorted(&wanted.addresses))
                && subject
                    .iter_common_name()
                    .filter_map(|it| it.as_str().ok())
                    .eq([wanted.common_name.as_str()])
                && subject
                    .iter_organization()
                    .filter_map(|it| it.as_str().ok())
                    .eq(wanted.organization.as_deref())
                && ends > seconds_at(today) + RENEW_DAYS * 24 * 3600
        })
        .unwrap_or(false)
}

fn seconds_at(date: Date) -> i64 {
    date.to_zoned(TimeZone::UTC).map_or(i64::MAX / 2, |it| it.timestamp().as_second())
}

fn subject_key(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

fn authority_key(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|it| it.0.to_vec()),
        _ => None,
    })
}

fn alternative_names(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let general = certificate.subject_alternative_name().ok().flatten();
    for name in general.iter().flat_map(|it| &it.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)));
            }
            _ => {}
        }
    }
    names.sort();
    addresses.sort();
    (names, addresses)
}
