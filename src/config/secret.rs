//! Reads one secret from its file, when nobody else can.
//!
//! What is checked is what is read: the file is opened first, links followed, and everything is
//! asked of what was opened.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;

/// A credential larger than this is not one.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Who may read a file with a secret besides us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Nobody: mode 0600 or less.
    Nobody,
    /// Whom systemd gives it to, in a folder that others cannot enter. Access lists show as rights
    /// of the group there.
    Group,
}

/// What is wrong with a secret: never what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl From<String> for Unreadable {
    fn from(message: String) -> Unreadable {
        Unreadable {
            message,
            hint: None,
        }
    }
}

/// The content without the line breaks at its end, which editors add; `None` when there is no such
/// file.
pub(super) fn read(path: &Path, readers: Readers) -> Result<Option<String>, Unreadable> {
    let shown = path.display();
    let cannot = |error: std::io::Error| format!("cannot read the secret '{shown}': {error}");
    // To open a pipe would wait for its other end.
    let nonblocking = OFlag::O_NONBLOCK.bits();
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error).into()),
    };
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(format!("the secret '{shown}' is not a regular file").into());
    }
    is_private(path, &metadata, readers)?;
    let text = content(file).map_err(cannot)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > SECRET_BYTES_MAX {
        return Err(format!("the secret '{shown}' is larger than 64 KiB").into());
    }
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("the secret '{shown}' is empty").into()),
        text => Ok(Some(text.to_owned())),
    }
}

fn content(file: File) -> Result<String, std::io::Error> {
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn is_private(path: &Path, metadata: &Metadata, readers: Readers) -> Result<(), Unreadable> {
    let mode = metadata.mode();
    let others_may = match readers {
        Readers::Nobody => mode & 0o077 != 0,
        Readers::Group => mode & 0o007 != 0 && others_enter(path),
    };
    if !others_may {
        return Ok(());
    }
    let shown = path.display();
    Err(Unreadable {
        message: format!(
            "others may read the secret '{shown}' (mode {:04o})",
            mode & 0o7777
        ),
        hint: Some(format!("run: chmod 600 '{shown}'")),
    })
}

/// Whether those who are neither owner nor group can get to a file, where it really lies.
fn others_enter(path: &Path) -> bool {
    let real = std::fs::canonicalize(path);
    let folder = real.ok().and_then(|path| path.parent()?.metadata().ok());
    folder.is_none_or(|folder| folder.mode() & 0o001 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const SECRET: &str = "hunter2-correct-horse";

    /// A name, who may read, and what comes of it: the secret, or a part of the message.
    type Case<'a> = (&'a str, Readers, Result<&'a str, &'a str>);

    /// Secrets in a folder that others cannot enter and in one that they can, by their modes; what
    /// is no secret; and links to what others may read, to what they may not, to nothing, and by
    /// way of a folder.
    fn write_files(folder: &Path) {
        let path = |name: &str| folder.join(name);
        let mode = |name: &str, mode: u32| {
            set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        };
        for (inner, rights) in [("private", 0o700), ("public", 0o755)] {
            create_dir(path(inner)).unwrap();
            for (file, rights) in [
                ("600", 0o600),
                ("400", 0o400),
                ("440", 0o440),
                ("604", 0o604),
            ] {
                let name = format!("{inner}/{file}");
                write(path(&name), format!("{SECRET}\r\n")).unwrap();
                mode(&name, rights);
            }
            mode(inner, rights);
        }
        write(path("private/empty"), "\n").unwrap();
        write(path("private/large"), vec![b'x'; 64 * 1024 + 1]).unwrap();
        write(
            path("private/binary"),
            [SECRET.as_bytes(), &[0xff]].concat(),
        )
        .unwrap();
        for name in ["empty", "large", "binary"] {
            mode(&format!("private/{name}"), 0o600);
        }
        nix::unistd::mkfifo(&path("private/pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        symlink(path("public/604"), path("private/open")).unwrap();
        symlink(path("private/600"), path("public/closed")).unwrap();
        symlink(path("private/none"), path("private/dangling")).unwrap();
        symlink(path("public"), path("linked")).unwrap();
    }

    #[test]
    fn only_what_nobody_else_can_read_is_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        write_files(folder.path());
        let path = |name: &str| folder.path().join(name);
        let others = Err("others may read the secret");
        let table: [Case<'_>; 19] = [
            ("private/600", Readers::Nobody, Ok(SECRET)),
            ("private/400", Readers::Nobody, Ok(SECRET)),
            ("public/600", Readers::Nobody, Ok(SECRET)),
            ("public/closed", Readers::Nobody, Ok(SECRET)),
            ("linked/600", Readers::Nobody, Ok(SECRET)),
            ("private/440", Readers::Nobody, others),
            ("private/604", Readers::Nobody, others),
            ("private/open", Readers::Nobody, others),
            ("linked/604", Readers::Nobody, others),
            ("private/440", Readers::Group, Ok(SECRET)),
            ("private/604", Readers::Group, Ok(SECRET)),
            ("public/604", Readers::Group, others),
            ("private/open", Readers::Group, others),
            ("linked/604", Readers::Group, others),
            ("private/empty", Readers::Nobody, Err("is empty")),
            (
                "private/large",
                Readers::Nobody,
                Err("is larger than 64 KiB"),
            ),
            ("private/binary", Readers::Nobody, Err("valid UTF-8")),
            (
                "private/pipe",
                Readers::Nobody,
                Err("is not a regular file"),
            ),
            ("private", Readers::Nobody, Err("is not a regular file")),
        ];
        for (name, readers, expected) in table {
            match (read(&path(name), readers), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), Some(expected), "{name}"),
                (Err(why), Err(part)) => {
                    assert!(why.message.contains(part), "{name}: {why:?}");
                    assert!(!format!("{why:?}").contains(SECRET), "{name}: {why:?}");
                }
                (found, _) => panic!("{name}, {readers:?}: {found:?}"),
            }
        }
        for name in ["private/none", "private/dangling"] {
            assert_eq!(read(&path(name), Readers::Nobody), Ok(None), "{name}");
        }
    }
}
