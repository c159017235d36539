use std::fs::{Permissions, create_dir, set_permissions, write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use super::*;
use crate::event::to_hex;

fn mode(path: &Path, mode: u32) {
    set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    let output = command.args(arguments).current_dir(folder).output();
    let output = output.expect("openssl is installed");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// RFC 8032, 7.1, test 3.
#[test]
fn signatures_are_those_of_the_standard() {
    let seed = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7";
    let seed = crate::event::from_hex(seed).unwrap();
    let key = SigningKey::from_seed(seed.try_into().unwrap()).unwrap();
    let public = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025";
    assert_eq!(to_hex(&key.public().0), public);
    let signature = "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                     18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a";
    assert_eq!(to_hex(&key.sign(&[0xaf, 0x82])), signature);
}

#[test]
fn openssl_reads_what_we_write_and_we_what_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let key = SigningKey::generate().unwrap();
    key.write(&path("own.pem")).unwrap();
    key.write_public(&path("own.pub")).unwrap();
    write(path("message"), "eventflux-config-1\npump-7\n").unwrap();
    let message = b"eventflux-config-1\npump-7\n".as_slice();

    let public = openssl(folder.path(), &["pkey", "-in", "own.pem", "-pubout"]);
    assert_eq!(public, key.public_pem());
    write(path("own.sig"), key.sign(message)).unwrap();
    let verify = [
        "pkeyutl", "-verify", "-pubin", "-inkey", "own.pub", "-rawin",
    ];
    let files = ["-in", "message", "-sigfile", "own.sig"];
    openssl(folder.path(), &[verify.as_slice(), &files].concat());

    openssl(
        folder.path(),
        &["genpkey", "-algorithm", "ed25519", "-out", "theirs.pem"],
    );
    mode(&path("theirs.pem"), 0o600);
    let public = ["pkey", "-in", "theirs.pem", "-pubout", "-out", "theirs.pub"];
    openssl(folder.path(), &public);
    mode(&path("theirs.pub"), 0o644);
    let sign = ["pkeyutl", "-sign", "-inkey", "theirs.pem", "-rawin"];
    let files = ["-in", "message", "-out", "theirs.sig"];
    openssl(folder.path(), &[sign.as_slice(), &files].concat());
    let theirs = SigningKey::read(&path("theirs.pem")).unwrap();
    let signature = std::fs::read(path("theirs.sig")).unwrap();
    assert_eq!(theirs.sign(message), signature);
    let trust = path("trust");
    create_dir(&trust).unwrap();
    mode(&trust, 0o755);
    std::fs::copy(path("theirs.pub"), trust.join("theirs.pub")).unwrap();
    let (trusted, warnings) = Trusted::read(&trust);
    assert_eq!(warnings, [""; 0]);
    let kid = theirs.kid();
    assert_eq!(trusted.verify(Some(&kid), message, &signature), Ok(kid));
}

#[test]
fn only_a_trusted_key_and_a_true_signature_count() {
    let (one, two) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let mut trusted = Trusted::default();
    trusted.add(one.public());
    let code = |kid: Option<&str>, message: &[u8], signature: &[u8]| {
        let verdict = trusted.verify(kid, message, signature);
        verdict.map_err(|fault| fault.code)
    };
    let (first, second) = (one.kid(), two.kid());
    let signature = one.sign(b"yes");
    assert_eq!(code(Some(&first), b"yes", &signature), Ok(first.clone()));
    assert_eq!(code(None, b"yes", &signature), Ok(first.clone()));
    assert_eq!(code(Some(&first), b"no", &signature), Err(Code::Signature));
    assert_eq!(code(None, b"no", &signature), Err(Code::Key));
    // What it is called says nothing about who has signed it.
    for other in [second.as_str(), "fleet.pub", "", &first.to_uppercase()] {
        assert_eq!(code(Some(other), b"yes", &signature), Ok(first.clone()));
        assert_eq!(code(Some(other), b"no", &signature), Err(Code::Key));
    }
    let foreign = two.sign(b"yes");
    assert_eq!(code(Some(&second), b"yes", &foreign), Err(Code::Key));
    assert_eq!(code(Some(&first), b"yes", &foreign), Err(Code::Signature));
    assert_eq!(code(None, b"yes", &foreign), Err(Code::Key));
    for short in [&b""[..], &signature[..63], &[0; 64], &[0; 65]] {
        assert_eq!(code(Some(&first), b"yes", short), Err(Code::Signature));
    }
}

#[test]
fn a_private_key_is_written_once_and_for_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    let key = SigningKey::generate().unwrap();
    key.write(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(SigningKey::read(&path).unwrap().kid(), key.kid());
    let other = SigningKey::generate().unwrap();
    assert!(matches!(other.write(&path), Err(KeyError::Exists { .. })));
    assert_eq!(SigningKey::read(&path).unwrap().kid(), key.kid());
    for open in [0o640, 0o604, 0o660] {
        mode(&path, open);
        let refused = SigningKey::read(&path).unwrap_err().to_string();
        assert!(refused.contains("others may read"), "{refused}");
        assert!(refused.contains("chmod 600"), "{refused}");
    }
    assert!(!format!("{key:?}").contains(&to_hex(&key.seed)));
}

#[test]
fn what_is_no_key_is_passed_over_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let trust = folder.path().join("trust");
    create_dir(&trust).unwrap();
    mode(&trust, 0o755);
    let path = |name: &str| trust.join(name);
    let key = SigningKey::generate().unwrap();
    key.write_public(&path("good.pub")).unwrap();
    // Text around the block is what `openssl pkey -text` writes.
    let other = SigningKey::generate().unwrap();
    let text = format!("of the night shift\n{}the end\n", other.public_pem());
    write(path("with_text.pub"), text).unwrap();
    write(path("notes.txt"), "not looked at").unwrap();
    let odd = [
        ("empty.pub", String::new()),
        ("large.pub", "x".repeat(KEY_BYTES_MAX + 1)),
        ("torn.pub", key.public_pem().chars().take(60).collect()),
        ("rsa.pub", pem(PUBLIC_LABEL, &[1, 2, 3])),
        (
            "long.pub",
            pem(PUBLIC_LABEL, &[SPKI_HEAD.as_slice(), &[0; 33]].concat()),
        ),
        (
            "private.pub",
            pem(PRIVATE_LABEL, &[PKCS8_HEAD.as_slice(), &[0; 32]].concat()),
        ),
    ];
    for (name, text) in &odd {
        write(path(name), text).unwrap();
        mode(&path(name), 0o644);
    }
    create_dir(path("folder.pub")).unwrap();
    symlink("nowhere", path("dangling.pub")).unwrap();
    nix::unistd::mkfifo(&path("pipe.pub"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    write(path("bytes.pub"), [255, 254]).unwrap();
    write(path("writable.pub"), key.public_pem()).unwrap();
    for (name, rights) in [("bytes", 0o644), ("writable", 0o664), ("with_text", 0o644)] {
        mode(&path(&format!("{name}.pub")), rights);
    }
    let (trusted, warnings) = Trusted::read(&trust);
    let mut kids = [key.kid(), other.kid()];
    kids.sort();
    assert!(trusted.kids().eq(kids.iter()), "{trusted:?}");
    assert_eq!(warnings.len(), odd.len() + 5, "{warnings:#?}");
    for name in [
        "large", "torn", "folder", "dangling", "pipe", "bytes", "writable",
    ] {
        let is_named = |warning: &String| warning.contains(&format!("{name}.pub"));
        assert!(warnings.iter().any(is_named), "{name}: {warnings:#?}");
    }

    for open in [0o775, 0o757] {
        mode(&trust, open);
        let (trusted, warnings) = Trusted::read(&trust);
        assert_eq!(trusted, Trusted::default());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("others may write"), "{warnings:?}");
    }
    let (trusted, warnings) = Trusted::read(&folder.path().join("none"));
    assert_eq!((trusted, warnings.len()), (Trusted::default(), 1));
}

#[test]
fn a_key_of_another_make_is_read_too() {
    // Version 1 of PKCS#8 has the public key behind the seed: what `ring` itself makes.
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let key = SigningKey::from_pem(&pem(PRIVATE_LABEL, made.as_ref())).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap();
    assert_eq!(key.public().0, pair.public_key().as_ref());
    assert!(SigningKey::from_pem(&pem(PRIVATE_LABEL, &[0x30, 0x00])).is_err());
    assert!(SigningKey::from_pem("").is_err());
}
