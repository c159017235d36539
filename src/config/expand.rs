//! `${VAR}`, `${VAR:default}` and `${secret:name}` in what a person wrote.
//!
//! `$$` is a dollar sign; a `$` before anything else stands for itself, so that JSON paths such
//! as `$.v.t` need no care. What a reference stands for is never expanded again.

use std::path::{Path, PathBuf};

use super::secret::{self, Readers, Unreadable};

/// Looks up a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where references are looked up.
#[derive(Clone)]
pub struct Expander<'a> {
    environment: Environment<'a>,
    secrets_path: PathBuf,
}

/// A text without references.
#[derive(Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Whether a secret is part of it, so that it must never be shown.
    pub hidden: bool,
}

impl std::fmt::Debug for Expanded {
    /// Shows the text unless it is hidden.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.hidden {
            true => out.write_str(super::HIDDEN),
            false => write!(out, "{:?}", self.text),
        }
    }
}

/// A reference that stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The reference as written, such as `${PLANT}`.
    pub reference: String,
    /// What is wrong: a lower-case sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl<'a> Expander<'a> {
    /// Looks up variables in `environment`, and secrets in the folder that systemd names in
    /// `CREDENTIALS_DIRECTORY`, then in `secrets_path`.
    #[must_use]
    pub fn new(environment: Environment<'a>, secrets_path: &Path) -> Expander<'a> {
        Expander {
            environment,
            secrets_path: secrets_path.to_owned(),
        }
    }

    /// Replaces every reference in `text`.
    ///
    /// # Errors
    ///
    /// The first reference that is not closed, is not set and has no default, or names a secret
    /// that is not there or that others may read.
    pub fn expand(&self, text: &str) -> Result<Expanded, Unresolved> {
        let mut out = String::with_capacity(text.len());
        let mut hidden = false;
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            if let Some(after) = from.strip_prefix("$$") {
                out.push('$');
                rest = after;
            } else if let Some(inner) = from.strip_prefix("${") {
                let Some((inner, after)) = inner.split_once('}') else {
                    return Err(unclosed(from));
                };
                let (value, secret) = self.lookup(inner)?;
                out.push_str(&value);
                hidden |= secret;
                rest = after;
            } else {
                out.push('$');
                rest = from.strip_prefix('$').unwrap_or("");
            }
        }
        out.push_str(rest);
        Ok(Expanded { text: out, hidden })
    }

    fn lookup(&self, inner: &str) -> Result<(String, bool), Unresolved> {
        let reference = format!("${{{inner}}}");
        let (name, default) = match inner.split_once(':') {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if let ("secret", Some(secret)) = (name, default) {
            return self.secret(reference, secret).map(|value| (value, true));
        }
        if !is_variable_name(name) {
            return Err(Unresolved {
                reference,
                message: format!("'{name}' is not the name of a variable"),
                hint: "write ${NAME} or ${NAME:default}, and $$ for a dollar sign".to_owned(),
            });
        }
        match ((self.environment)(name), default) {
            (Some(value), _) => Ok((value, false)),
            (None, Some(default)) => Ok((default.to_owned(), false)),
            (None, None) => Err(Unresolved {
                message: format!("the environment variable '{name}' is not set"),
                hint: format!("set it, or give a default: ${{{name}:default}}"),
                reference,
            }),
        }
    }

    fn secret(&self, reference: String, name: &str) -> Result<String, Unresolved> {
        let fault = |message: String, hint: String| Unresolved {
            reference: reference.clone(),
            message,
            hint,
        };
        if !is_secret_name(name) {
            return Err(fault(
                format!("'{name}' is not the name of a secret"),
                "use letters, digits, '.', '_' and '-', not beginning with '.'".to_owned(),
            ));
        }
        let unreadable = |why: Unreadable, or: &str| {
            let hint = why.hint.unwrap_or_else(|| or.to_owned());
            fault(why.message, hint)
        };
        if let Some(folder) = (self.environment)("CREDENTIALS_DIRECTORY") {
            let found = secret::read(&Path::new(&folder).join(name), Readers::Group);
            let advice = "see LoadCredential= in systemd.exec(5)";
            if let Some(text) = found.map_err(|why| unreadable(why, advice))? {
                return Ok(text);
            }
        }
        let path = self.secrets_path.join(name);
        let found = secret::read(&path, Readers::Nobody);
        let found = found.map_err(|why| unreadable(why, "write the secret anew"))?;
        found.ok_or_else(|| {
            let shown = path.display();
            fault(
                format!("there is no secret '{name}'"),
                format!("write it to '{shown}' (mode 0600), or pass it with LoadCredential="),
            )
        })
    }
}

/// Whether a text leaves its value to references: it has one, and none brings a value of its own.
pub(super) fn is_reference(text: &str) -> bool {
    let mut refers = false;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let from = rest.get(at..).unwrap_or("");
        if let Some(after) = from.strip_prefix("$$") {
            rest = after;
        } else if let Some((inner, after)) = from
            .strip_prefix("${")
            .and_then(|inner| inner.split_once('}'))
        {
            let own = inner.split_once(':').filter(|(name, _)| *name != "secret");
            if own.is_some_and(|(_, default)| !default.is_empty()) {
                return false;
            }
            refers = true;
            rest = after;
        } else {
            rest = from.get(1..).unwrap_or("");
        }
    }
    refers
}

fn unclosed(from: &str) -> Unresolved {
    Unresolved {
        reference: "${".to_owned(),
        message: match from.chars().nth(2) {
            Some(_) => "'${' is not closed by a '}'".to_owned(),
            None => "'${' stands at the end of the text".to_owned(),
        },
        hint: "write ${NAME} or ${NAME:default}, and $$ for a dollar sign".to_owned(),
    }
}

fn is_variable_name(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_secret_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "PLANT" => Some("north".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${PLANT}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn references_expand_or_say_why_not() {
        let table: [(&str, Result<&str, &str>); 16] = [
            ("plain", Ok("plain")),
            ("${PLANT}/${PLANT}", Ok("north/north")),
            ("${NONE:south}", Ok("south")),
            ("${NONE:}", Ok("")),
            ("${NONE:mqtt://a:1883}", Ok("mqtt://a:1883")),
            ("${EMPTY:x}", Ok("")),
            ("${TRICK}", Ok("${PLANT}")),
            ("$.v.t", Ok("$.v.t")),
            ("$", Ok("$")),
            ("a$$b$${PLANT}", Ok("a$b${PLANT}")),
            ("$$$$", Ok("$$")),
            ("${NONE}", Err("the environment variable 'NONE' is not set")),
            ("${PLANT", Err("'${' is not closed by a '}'")),
            ("${", Err("'${' stands at the end of the text")),
            ("${1}", Err("'1' is not the name of a variable")),
            ("${secret:../x}", Err("'../x' is not the name of a secret")),
        ];
        let expander = Expander::new(&environment, Path::new("/nowhere"));
        for (text, expected) in table {
            let found = expander.expand(text);
            let found = found
                .map(|expanded| expanded.text)
                .map_err(|why| why.message);
            let found = found.as_deref().map_err(String::as_str);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_secret_comes_from_systemd_or_else_from_the_folder() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let credentials = tempfile::tempdir().unwrap();
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(credentials.path(), private).unwrap();
        let write = |path: PathBuf, text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write(folder.path().join("good"), "hunter2\n", 0o600);
        write(folder.path().join("open"), "hunter2\n", 0o640);
        write(folder.path().join("token"), "not this one", 0o600);
        write(credentials.path().join("token"), "from systemd", 0o444);
        let given = credentials.path().display().to_string();
        let environment = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| given.clone());
        let expander = Expander::new(&environment, folder.path());
        let table: [(&str, Result<&str, &str>); 4] = [
            ("u:${secret:good}", Ok("u:hunter2")),
            ("${secret:token}", Ok("from systemd")),
            ("${secret:open}", Err("others may read the secret")),
            ("${secret:none}", Err("there is no secret 'none'")),
        ];
        for (text, expected) in table {
            match (expander.expand(text), expected) {
                (Ok(expanded), Ok(expected)) => {
                    assert_eq!(expanded.text, expected);
                    assert!(expanded.hidden);
                    assert!(!format!("{expanded:?}").contains(expected));
                }
                (Err(why), Err(part)) => assert!(why.message.contains(part), "{}", why.message),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
