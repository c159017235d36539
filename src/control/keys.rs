//! Keys for signing (Ed25519, RFC 8032), and those that are trusted here.
//!
//! ```text
//! private key  PKCS#8 (RFC 8410) in PEM: 30 2e 02 01 00 30 05 06 03 2b 65 70 04 22 04 20, seed 32
//! public key   SPKI (RFC 8410) in PEM:   30 2a 30 05 06 03 2b 65 70 03 21 00, key 32
//! key id       the first 16 hexadecimal digits of the SHA-256 of the 32 bytes of the public key
//! ```
//!
//! Both are what `openssl genpkey -algorithm ed25519` writes, and `openssl pkey` reads. Trusted
//! keys come from one local folder and from nowhere else; what others could have put there does
//! not count.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::fields::shown;
use super::hash::sha256_hex;
use super::{Code, Fault};
use crate::event::{from_base64, to_base64};

/// A file larger than this is no key.
const KEY_BYTES_MAX: usize = 4 << 10;
/// So many keys are trusted at the most.
const TRUSTED_KEYS_MAX: usize = 256;
/// So many entries of the folder are looked at, at the most.
const FOLDER_ENTRIES_MAX: usize = 4_096;
/// What the name of a trusted key ends with.
const SUFFIX: &str = "pub";

const SEED_BYTES: usize = 32;
const PUBLIC_BYTES: usize = 32;
/// Version 0 of PKCS#8, without the public key: what every program reads.
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const SPKI_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
const PRIVATE_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot {what} the key `{}`: {source}", path.display())]
    Io {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is a file already.
    #[error("`{}` exists; a key is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others have rights to it that they must not have.
    #[error("others may {what} `{}` (mode {mode:04o}); run: chmod {rights} `{}`",
        path.display(), path.display())]
    Open {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its rights.
        mode: u32,
        /// What they should be, as `chmod` takes them.
        rights: &'static str,
    },
    /// It is something else.
    #[error("`{}` is not a key: {why}", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// A public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; PUBLIC_BYTES]);

impl PublicKey {
    /// Reads a key from a PEM file.
    ///
    /// # Errors
    /// It cannot be read, others may write it, or it is no such key.
    pub fn read(path: &Path) -> Result<PublicKey, KeyError> {
        let text = content(path, "write", 0o022, "go-w")?;
        PublicKey::from_pem(&text).map_err(|why| not_a_key(path, why))
    }

    fn from_pem(text: &str) -> Result<PublicKey, &'static str> {
        let bytes = pem_content(text, PUBLIC_LABEL).ok_or("no PEM block `PUBLIC KEY` in it")?;
        let key = bytes.strip_prefix(&SPKI_HEAD);
        let key = key.and_then(|key| <[u8; PUBLIC_BYTES]>::try_from(key).ok());
        key.map(PublicKey)
            .ok_or("its public key is not an Ed25519 one")
    }

    /// The key's id.
    #[must_use]
    pub fn kid(&self) -> String {
        sha256_hex(&self.0).chars().take(16).collect()
    }

    /// The key as SPKI in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem(PUBLIC_LABEL, &[SPKI_HEAD.as_slice(), &self.0].concat())
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        key.verify(message, signature).is_ok()
    }
}

/// The keys that are trusted here, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted(BTreeMap<String, PublicKey>);

impl Trusted {
    /// The keys in the files `*.pub` of a folder, and what was passed over, with the reason.
    #[must_use]
    pub fn read(folder: &Path) -> (Trusted, Vec<String>) {
        let mut trusted = Trusted::default();
        let mut warnings = Vec::new();
        match key_files(folder) {
            Ok(files) => {
                for path in files {
                    match PublicKey::read(&path) {
                        Ok(_) if trusted.0.len() >= TRUSTED_KEYS_MAX => {
                            warnings.push(format!(
                                "`{}` is passed over: {TRUSTED_KEYS_MAX} keys are trusted already",
                                path.display()
                            ));
                        }
                        Ok(key) => trusted.add(key),
                        Err(error) => {
                            warnings.push(format!("a trusted key is passed over: {error}"));
                        }
                    }
                }
            }
            Err(warning) => warnings.push(warning),
        }
        (trusted, warnings)
    }

    /// Trusts one more.
    pub fn add(&mut self, key: PublicKey) {
        self.0.insert(key.kid(), key);
    }

    /// The ids of all.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The id of the key that has signed `message`. `kid` only says which key is the likely one:
    /// where none is called so, as without it, all are tried.
    ///
    /// # Errors
    /// [`Code::Key`]: no key is trusted that is called so, and none that is has signed it.
    /// [`Code::Signature`]: the key is trusted, and this is no signature of it over `message`.
    pub fn verify(
        &self,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<String, Fault> {
        match kid.and_then(|kid| self.0.get_key_value(kid)) {
            Some((kid, key)) if key.has_signed(message, signature) => Ok(kid.clone()),
            Some((kid, _)) => Err(Fault::new(
                Code::Signature,
                format!("the signature with the key '{kid}' is not one over what it says"),
            )),
            None => {
                let mut keys = self.0.iter();
                let found = keys.find(|(_, key)| key.has_signed(message, signature));
                let found = found.map(|(kid, _)| kid.clone());
                found.ok_or_else(|| Fault::new(Code::Key, unknown(kid)))
            }
        }
    }
}

fn unknown(kid: Option<&str>) -> String {
    match kid {
        Some(kid) => format!("the key '{}' is not trusted here", shown(kid)),
        None => "no key that is trusted here has signed it".to_owned(),
    }
}

/// The files `*.pub` in a folder that only its owner may write to, in the order of their names.
fn key_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let shown = folder.display();
    let cannot = |error| format!("no key is trusted: cannot read the folder `{shown}`: {error}");
    let mode = std::fs::metadata(folder).map_err(cannot)?.mode();
    if mode & 0o022 != 0 {
        let mode = mode & 0o7777;
        return Err(format!(
            "no key is trusted: others may write to the folder `{shown}` (mode {mode:04o}); \
             run: chmod go-w `{shown}`"
        ));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)
        .map_err(cannot)?
        .take(FOLDER_ENTRIES_MAX)
    {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A private key.
pub struct SigningKey {
    seed: [u8; SEED_BYTES],
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "SigningKey({})", self.kid())
    }
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<SigningKey, KeyError> {
        let mut seed = [0; SEED_BYTES];
        let filled = SystemRandom::new().fill(&mut seed);
        filled.map_err(|_| KeyError::Random)?;
        SigningKey::from_seed(seed).ok_or(KeyError::Random)
    }

    /// The key that a seed makes; all seeds make one.
    pub(super) fn from_seed(seed: [u8; SEED_BYTES]) -> Option<SigningKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
        Some(SigningKey { seed, pair })
    }

    /// Reads a key from a PEM file that nobody else can read.
    ///
    /// # Errors
    /// It cannot be read, others may read it, or it is no such key.
    pub fn read(path: &Path) -> Result<SigningKey, KeyError> {
        let text = content(path, "read", 0o077, "600")?;
        SigningKey::from_pem(&text).map_err(|why| not_a_key(path, why))
    }

    fn from_pem(text: &str) -> Result<SigningKey, &'static str> {
        const FOREIGN: &str = "its private key is not an Ed25519 one as openssl writes it";
        let bytes = pem_content(text, PRIVATE_LABEL)
            .ok_or("no PEM block `PRIVATE KEY` in it, or it is encrypted")?;
        // Other writers add the public key behind the seed (version 1): `ring` checks that it fits.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes).map_err(|_| FOREIGN)?;
        let start = bytes
            .windows(4)
            .position(|four| four == [0x04, 0x22, 0x04, 0x20]);
        let seed = start.and_then(|start| bytes.get(start + 4..start + 4 + SEED_BYTES));
        let seed = seed.and_then(|seed| <[u8; SEED_BYTES]>::try_from(seed).ok());
        seed.and_then(SigningKey::from_seed).ok_or(FOREIGN)
    }

    /// Writes the key to a new file that nobody else can read.
    ///
    /// # Errors
    /// There is such a file already, or it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let der = [PKCS8_HEAD.as_slice(), &self.seed].concat();
        write_new(path, 0o600, &pem(PRIVATE_LABEL, &der))
    }

    /// Writes its public key to a new file.
    ///
    /// # Errors
    /// There is such a file already, or it cannot be written.
    pub fn write_public(&self, path: &Path) -> Result<(), KeyError> {
        write_new(path, 0o644, &self.public_pem())
    }

    /// The signature over a message, 64 bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref();
        PublicKey(bytes.try_into().unwrap_or([0; PUBLIC_BYTES]))
    }

    /// The key's id.
    #[must_use]
    pub fn kid(&self) -> String {
        self.public().kid()
    }

    /// The public key as SPKI in PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        self.public().pem()
    }
}

fn not_a_key(path: &Path, why: &'static str) -> KeyError {
    let path = path.to_owned();
    KeyError::NotAKey { path, why }
}

/// The text of a key file. Links are followed, and everything is asked of what was opened.
fn content(
    path: &Path,
    what: &'static str,
    forbidden: u32,
    rights: &'static str,
) -> Result<String, KeyError> {
    let cannot = |source| KeyError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    };
    // To open a pipe would wait for its other end.
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(not_a_key(path, "it is not a regular file"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(KeyError::Open {
            what,
            path: path.to_owned(),
            mode,
            rights,
        });
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(KEY_BYTES_MAX + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > KEY_BYTES_MAX {
        return Err(not_a_key(path, "it is larger than 4 KiB"));
    }
    String::from_utf8(bytes).map_err(|_| not_a_key(path, "it is not text"))
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let cannot = |source: std::io::Error| match source.kind() {
        ErrorKind::AlreadyExists => KeyError::Exists {
            path: path.to_owned(),
        },
        _ => KeyError::Io {
            what: "write",
            path: path.to_owned(),
            source,
        },
    };
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(mode);
    let mut file: File = options.open(path).map_err(cannot)?;
    let written = file.write_all(text.as_bytes());
    written.and_then(|()| file.sync_all()).map_err(cannot)
}

/// A block of PEM (RFC 7468).
fn pem(label: &str, bytes: &[u8]) -> String {
    let text = to_base64(bytes);
    let mut out = format!("-----BEGIN {label}-----\n");
    for (index, c) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out.push_str(&format!("\n-----END {label}-----\n"));
    out
}

/// What is in the first block of this label; text around blocks does not matter.
fn pem_content(text: &str, label: &str) -> Option<Vec<u8>> {
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| *line == begin)?;
    let mut inside = String::new();
    for line in lines {
        if line == end {
            return from_base64(&inside);
        }
        inside.push_str(line);
    }
    None
}

#[cfg(test)]
mod tests;
