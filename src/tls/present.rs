//! TLS by `rustls`, with the cryptography of `ring`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Fault, NotEncrypted};
use crate::config::options::{OptionFault, Options};

/// Where systems keep the authorities they trust: Debian, Fedora, SUSE, Alpine.
const SYSTEM_STORES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// What a PEM file may have.
const PEM_BYTES_MAX: u64 = 4 << 20;
/// How the value of an option begins that is the PEM itself.
const PEM_BEGIN: &str = "-----BEGIN";

/// A fault, and whether it is only that a file may not be read.
#[derive(Debug)]
struct Problem {
    fault: OptionFault,
    is_forbidden: bool,
}

impl From<OptionFault> for Problem {
    fn from(fault: OptionFault) -> Problem {
        Problem {
            fault,
            is_forbidden: false,
        }
    }
}

/// A connection that we made, encrypted.
pub type Connected = tokio_rustls::client::TlsStream<TcpStream>;

/// A connection that we took, encrypted.
pub type Accepted = tokio_rustls::server::TlsStream<TcpStream>;

/// Says that this build encrypts, as `option` wants.
///
/// # Errors
/// Never; where TLS is not built in, always.
pub fn required(_option: &str) -> Result<(), OptionFault> {
    Ok(())
}

/// What a client needs to speak TLS.
#[derive(Debug)]
pub struct Client {
    material: Material,
    /// Under which name the far side is verified; its host when `None`.
    server_name: Option<ServerName<'static>>,
    alpn: Vec<Vec<u8>>,
    made: Mutex<Option<Made<ClientConfig>>>,
}

/// What a listener needs to speak TLS.
#[derive(Debug)]
pub struct Server {
    material: Material,
    alpn: Vec<Vec<u8>>,
    made: Mutex<Option<Made<ServerConfig>>>,
}

/// A configuration, and of which state of which files.
#[derive(Debug)]
struct Made<T> {
    config: Arc<T>,
    files: Vec<(PathBuf, Option<SystemTime>)>,
}

impl<T> Made<T> {
    fn is_current(&self) -> bool {
        let mut files = self.files.iter();
        files.all(|(path, then)| modified(path) == *then)
    }
}

/// Checks the client options `<prefix>.ca`, `.cert`, `.key`, `.server_name` and `.alpn`.
///
/// # Errors
/// The first option whose value cannot be used.
pub fn client(options: &Options, prefix: &str) -> Result<Client, OptionFault> {
    let material = Material::new(options, prefix, "ca");
    let name = format!("{prefix}.server_name");
    let server_name = options.text(&name).map(|text| parse_name(&name, text));
    let client = Client {
        server_name: server_name.transpose()?,
        alpn: protocols(options, &format!("{prefix}.alpn"))?,
        made: Mutex::new(None),
        material,
    };
    match client.make() {
        Err(problem) if !problem.is_forbidden => Err(problem.fault),
        Ok(_) | Err(_) => Ok(client),
    }
}

/// Checks the listener options `<prefix>.cert`, `.key` and `.client_ca`; without the first two
/// there is no TLS. `alpn` are the protocols that the listener speaks.
///
/// # Errors
/// The first option whose value cannot be used.
pub fn server(
    options: &Options,
    prefix: &str,
    alpn: &[&str],
) -> Result<Option<Server>, OptionFault> {
    let material = Material::new(options, prefix, "client_ca");
    if material.cert.is_none() && material.key.is_none() {
        return match material.ca {
            None => Ok(None),
            Some(ca) => {
                let problem = format!("without TLS no client shows one: set {prefix}.cert too");
                Err(OptionFault::new(ca.option, problem))
            }
        };
    }
    let server = Server {
        material,
        alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
        made: Mutex::new(None),
    };
    match server.make() {
        Err(problem) if !problem.is_forbidden => Err(problem.fault),
        Ok(_) | Err(_) => Ok(Some(server)),
    }
}

impl Client {
    /// The configuration for a connection, of the files as they are now.
    ///
    /// # Errors
    /// A file cannot be read, or cannot be used any more.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Fault> {
        current(&self.made, || self.make())
    }

    /// Encrypts a connection to `host`, whose certificate is verified.
    ///
    /// # Errors
    /// Our certificates cannot be used now, or the far side is not who it should be.
    pub async fn encrypt(&self, host: &str, stream: TcpStream) -> Result<Connected, NotEncrypted> {
        let config = self.config()?;
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?,
        };
        Ok(TlsConnector::from(config).connect(name, stream).await?)
    }

    /// Under which name the far side is to be verified, when it is not its host.
    #[must_use]
    pub fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }

    fn make(&self) -> Result<Made<ClientConfig>, Problem> {
        let files = self.material.files();
        let material = &self.material;
        let roots = match &material.ca {
            Some(ca) => ca.roots()?,
            None => system_roots(),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| OptionFault::new(material.prefix.as_str(), error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match material.identity()? {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| material.mismatch(&error))?,
        };
        config.alpn_protocols.clone_from(&self.alpn);
        let config = Arc::new(config);
        Ok(Made { config, files })
    }
}

impl Server {
    /// The configuration for a connection, of the files as they are now.
    ///
    /// # Errors
    /// A file cannot be read, or cannot be used any more.
    pub fn config(&self) -> Result<Arc<ServerConfig>, Fault> {
        current(&self.made, || self.make())
    }

    /// Encrypts a connection that was taken.
    ///
    /// # Errors
    /// Our certificates cannot be used now, or the far side does not go on.
    pub async fn accept(&self, stream: TcpStream) -> Result<Accepted, NotEncrypted> {
        let config = self.config()?;
        Ok(TlsAcceptor::from(config).accept(stream).await?)
    }

    /// Whether clients have to show a certificate.
    #[must_use]
    pub fn wants_client_certificates(&self) -> bool {
        self.material.ca.is_some()
    }

    fn make(&self) -> Result<Made<ServerConfig>, Problem> {
        let files = self.material.files();
        let material = &self.material;
        let fault = |error: String| OptionFault::new(material.prefix.as_str(), error);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(error.to_string()))?;
        let builder = match &material.ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(ca.roots()?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = verifier.build();
                let problem = |error: rustls::server::VerifierBuilderError| {
                    OptionFault::new(ca.option.as_str(), error.to_string())
                };
                builder.with_client_cert_verifier(verifier.map_err(problem)?)
            }
        };
        let (chain, key) = material
            .identity()?
            .ok_or_else(|| fault("a listener needs a certificate".to_owned()))?;
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| material.mismatch(&error))?;
        config.alpn_protocols.clone_from(&self.alpn);
        let config = Arc::new(config);
        Ok(Made { config, files })
    }
}

fn current<T>(
    made: &Mutex<Option<Made<T>>>,
    make: impl FnOnce() -> Result<Made<T>, Problem>,
) -> Result<Arc<T>, Fault> {
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(made) = made.as_ref().filter(|made| made.is_current()) {
        return Ok(Arc::clone(&made.config));
    }
    let fresh = make().map_err(|problem| Fault(problem.fault))?;
    let config = Arc::clone(&fresh.config);
    *made = Some(fresh);
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Parses the name or address under which a far side is verified; IPv6 with brackets or without.
///
/// # Errors
/// It is neither.
pub fn parse_name(option: &str, name: &str) -> Result<ServerName<'static>, OptionFault> {
    let plain = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    ServerName::try_from(plain.to_owned()).map_err(|_| {
        let problem = format!("`{name}` is not a host name or address");
        OptionFault::new(option, problem)
    })
}

fn protocols(options: &Options, name: &str) -> Result<Vec<Vec<u8>>, OptionFault> {
    let names = options.list(name).into_iter();
    let names: Vec<Vec<u8>> = names.map(|name| name.as_bytes().to_vec()).collect();
    if names.iter().any(|name| name.is_empty() || name.len() > 255) {
        let problem = "each protocol has a name of 1 to 255 bytes";
        return Err(OptionFault::new(name, problem));
    }
    Ok(names)
}

/// Where certificates and keys are.
#[derive(Debug)]
struct Material {
    prefix: String,
    ca: Option<Pem>,
    cert: Option<Pem>,
    key: Option<Pem>,
}

/// The value of one option.
struct Pem {
    option: String,
    text: String,
}

impl std::fmt::Debug for Pem {
    /// Without the text, which may be a key.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.option)
    }
}

impl Material {
    fn new(options: &Options, prefix: &str, ca: &str) -> Material {
        let pem = |name: &str| {
            let option = format!("{prefix}.{name}");
            let text = options.text(&option)?.trim_start().to_owned();
            Some(Pem { option, text })
        };
        Material {
            prefix: prefix.to_owned(),
            ca: pem(ca),
            cert: pem("cert"),
            key: pem("key"),
        }
    }

    /// The files that are to be watched, each with when it was written.
    fn files(&self) -> Vec<(PathBuf, Option<SystemTime>)> {
        let written = [&self.ca, &self.cert, &self.key];
        let mut files: Vec<PathBuf> = written
            .into_iter()
            .flatten()
            .filter_map(|pem| Some(pem.path()?.to_owned()))
            .collect();
        if self.ca.is_none() {
            files.extend(system_store());
        }
        let with_time = |path: PathBuf| (modified(&path), path);
        files
            .into_iter()
            .map(with_time)
            .map(|(time, path)| (path, time))
            .collect()
    }

    fn identity(
        &self,
    ) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, Problem> {
        let lonely = |pem: &Pem, other: &str| {
            let problem = format!("it needs its other half: set {}.{other} too", self.prefix);
            Problem::from(OptionFault::new(pem.option.as_str(), problem))
        };
        match (&self.cert, &self.key) {
            (None, None) => Ok(None),
            (Some(cert), None) => Err(lonely(cert, "key")),
            (None, Some(key)) => Err(lonely(key, "cert")),
            (Some(cert), Some(key)) => Ok(Some((cert.certificates()?, key.private_key()?))),
        }
    }

    fn mismatch(&self, error: &rustls::Error) -> OptionFault {
        let problem = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!(
                    "the key does not belong to the certificate of {}.cert",
                    self.prefix
                )
            }
            other => format!("the key cannot be used: {other}"),
        };
        OptionFault::new(format!("{}.key", self.prefix), problem)
    }
}

impl Pem {
    fn path(&self) -> Option<&Path> {
        (!self.text.starts_with(PEM_BEGIN)).then(|| Path::new(&self.text))
    }

    /// What a message calls it.
    fn place(&self) -> String {
        match self.path() {
            Some(path) => format!("`{}`", path.display()),
            None => "what is written".to_owned(),
        }
    }

    fn fault(&self, problem: String) -> Problem {
        OptionFault::new(self.option.as_str(), problem).into()
    }

    fn bytes(&self) -> Result<Vec<u8>, Problem> {
        let Some(path) = self.path() else {
            return Ok(self.text.as_bytes().to_vec());
        };
        read(path).map_err(|error| Problem {
            is_forbidden: error.kind() == ErrorKind::PermissionDenied,
            ..self.fault(format!("cannot read `{}`: {error}", path.display()))
        })
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Problem> {
        let bytes = self.bytes()?;
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let place = self.place();
        let certificates =
            parsed.map_err(|error| self.fault(format!("{place} is not PEM: {error}")))?;
        if certificates.is_empty() {
            return Err(self.fault(format!("{place} holds no certificate")));
        }
        Ok(certificates)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, Problem> {
        let bytes = self.bytes()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
            let is_encrypted = String::from_utf8_lossy(&bytes).contains("ENCRYPTED");
            let hint = if is_encrypted {
                "only an encrypted one, which nobody could open at start: write it without a \
                 passphrase, readable by its owner only"
            } else {
                "write one in PEM (PKCS#8, PKCS#1 or SEC1)"
            };
            self.fault(format!("{} holds no private key; {hint}", self.place()))
        })
    }

    fn roots(&self) -> Result<RootCertStore, Problem> {
        let mut roots = RootCertStore::empty();
        for (number, certificate) in (1..).zip(self.certificates()?) {
            let place = self.place();
            roots.add(certificate).map_err(|error| {
                self.fault(format!(
                    "certificate {number} of {place} is damaged: {error}"
                ))
            })?;
        }
        Ok(roots)
    }
}

/// What a failed handshake comes down to, in a sentence for whoever set the options `<prefix>.ca`
/// and so on; `None` when the error is not one of TLS.
#[must_use]
pub fn explain(error: &std::io::Error, prefix: &str) -> Option<String> {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error};
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        // The second: of one that has the name of one of ours, and another key.
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            format!("its certificate is not of an authority that we trust: see {prefix}.ca")
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("its certificate is for another name: see {prefix}.server_name ({error})")
        }
        Error::InvalidCertificate(
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. },
        ) => format!("its certificate is not valid at this time, or our clock is wrong ({error})"),
        Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "it does not speak TLS on this port".to_owned()
        }
        Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            // Of an authority that has the name of theirs, and another key.
            | Alert::DecryptError
            | Alert::UnknownCA
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::AccessDenied,
        ) => format!("it does not accept our certificate: see {prefix}.cert ({error})"),
        other => other.to_string(),
    })
}

/// The authorities that the system trusts; those built in where it has none.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if let Some(bytes) = system_store().and_then(|path| read(&path).ok()) {
        // One that cannot be read does not spoil the others.
        let certificates = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok);
        roots.add_parsable_certificates(certificates);
    }
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn system_store() -> Option<PathBuf> {
    let mut stores = SYSTEM_STORES.iter().map(PathBuf::from);
    stores.find(|path| path.is_file())
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > PEM_BYTES_MAX {
        let problem = format!("{bytes} bytes are more than the 4 MiB allowed");
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, problem));
    }
    std::fs::read(path)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|meta| meta.modified())
        .ok()
}

#[cfg(test)]
mod tests;
