//! Which files are meant: a folder, and a file name in which `*` stands for any characters and `?`
//! for one. Pure.

use std::path::{Path, PathBuf};

/// What rotated files are packed with; these are left alone.
const PACKED: [&str; 8] = [".gz", ".zst", ".bz2", ".xz", ".lz4", ".zip", ".7z", ".tgz"];

/// Files of one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    folder: PathBuf,
    pattern: String,
}

impl Names {
    /// Reads `/var/log/plant-*.csv`.
    ///
    /// # Errors
    /// What cannot be followed, and what to write instead.
    pub(super) fn new(path: &str) -> Result<Names, String> {
        let whole = Path::new(path);
        let Some(pattern) = whole.file_name().and_then(|name| name.to_str()) else {
            return Err(format!("`{path}` names no file"));
        };
        let folder = whole.parent().unwrap_or(Path::new(""));
        let folder = match folder.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => folder.to_path_buf(),
        };
        if path.ends_with('/') {
            return Err(format!(
                "`{path}` names a folder: add a file name, `*` for any"
            ));
        }
        if folder.to_string_lossy().contains(['*', '?']) {
            let problem = "`*` and `?` may stand in the file's name only, not in the folder's";
            return Err(problem.to_owned());
        }
        let names = Names {
            folder,
            pattern: pattern.to_owned(),
        };
        if names.single().is_some() && is_packed(pattern) {
            return Err(format!("`{pattern}` is compressed: unpack it first"));
        }
        Ok(names)
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The one path that is meant, when there is no more than one.
    pub(super) fn single(&self) -> Option<PathBuf> {
        let is_one = !self.pattern.contains(['*', '?']);
        is_one.then(|| self.folder.join(&self.pattern))
    }

    /// Whether a file of the folder is meant.
    pub(super) fn has(&self, name: &str) -> bool {
        matches(self.pattern.as_bytes(), name.as_bytes()) && !is_packed(name)
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.folder.join(&self.pattern).display())
    }
}

/// Whether a file's name says that it is compressed.
pub(super) fn is_packed(name: &str) -> bool {
    PACKED.iter().any(|ending| name.ends_with(ending))
}

/// The usual backtracking to the last `*`: linear in practice, quadratic at worst, in the length of
/// a file name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(at), name.get(from)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((at, from));
                at += 1;
            }
            (Some(b'?'), Some(byte)) => {
                at += 1;
                from += 1;
                // A character, not a byte of it.
                if *byte >= 0xC0 {
                    let rest = name.get(from..).unwrap_or_default();
                    from += rest.iter().take_while(|more| **more & 0xC0 == 0x80).count();
                }
            }
            (Some(wanted), Some(byte)) if wanted == byte => {
                at += 1;
                from += 1;
            }
            (Some(_) | None, _) => match star {
                Some((star_at, star_from)) if star_from < name.len() => {
                    star = Some((star_at, star_from + 1));
                    at = star_at + 1;
                    from = star_from + 1;
                }
                Some(_) | None => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_their_patterns() {
        for (pattern, name, expected) in [
            ("a.log", "a.log", true),
            ("a.log", "a.log.1", false),
            ("a.log*", "a.log.1", true),
            ("a.log*", "a.log", true),
            ("a.log*", "a.log.1.gz", false),
            ("*", "x", true),
            ("*.csv", ".csv", true),
            ("*.csv", "a.csv.b.csv", true),
            ("*.csv", "a.csv.b", false),
            ("p-?-*.csv", "p-ü-1.csv", true),
            ("p-?-*.csv", "p-12-1.csv", false),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
        ] {
            let names = Names::new(&format!("/logs/{pattern}")).unwrap();
            assert_eq!(names.has(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for (path, problem) in [
            ("/logs/", "names a folder"),
            ("/", "names no file"),
            ("/log*/a", "not in the folder's"),
            ("/logs/a.gz", "is compressed"),
        ] {
            let error = Names::new(path).unwrap_err();
            assert!(error.contains(problem), "{path}: {error}");
        }
        let names = Names::new("a.log").unwrap();
        assert_eq!(names.single(), Some(PathBuf::from("./a.log")));
        assert_eq!(
            Names::new("/logs/*.gz").map(|names| names.has("a.gz")),
            Ok(false)
        );
    }
}
