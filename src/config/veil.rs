//! Secrets that somebody wrote as they are: found in the texts, so that nobody is shown them.
//!
//! What is one goes by the name of the option. Where a text is not what it should be, too much is
//! taken for a secret rather than too little.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::is_reference;
use super::options::OptionSpec;
use super::resolve::{HIDDEN, find};
use super::sql_texts;
use super::text::NamedText;
use crate::diagnostic::{Diagnostic, nearest};

/// Shorter ones are not looked for outside of their places: they are in everything.
const WORD_CHARS_MIN: usize = 4;
/// No name of an option is longer.
const NAME_BYTES_MAX: usize = 256;
/// So many comments, of so many bytes, between a name and its value are passed over.
const COMMENTS_MAX: usize = 8;
const COMMENT_BYTES_MAX: usize = 4096;
/// So many unknown names are compared with those that somebody may have meant.
const GUESSES_MAX: u32 = 256;
/// Parts of unknown names that tell of a secret.
const TELLING: [&str; 6] = ["pass", "secret", "token", "bearer", "credential", "key"];
/// Headers that tell nothing, though headers may.
const PLAIN_HEADERS: [&str; 6] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "content-encoding",
    "content-type",
    "user-agent",
];
/// How the text of a private key begins; anything else is the name of a file.
const PEM_BEGIN: &str = "-----BEGIN";

/// A secret as it stands in a text.
#[derive(Clone, PartialEq, Eq)]
struct Literal {
    name: String,
    /// With its quotes.
    span: Range<usize>,
    /// Whether it is a value, not something in a comment that looks like one.
    is_value: bool,
}

/// What of some texts nobody is to see.
#[derive(Clone, Default, PartialEq)]
pub struct Veil {
    literals: BTreeMap<String, Vec<Literal>>,
    /// The secrets themselves, the longest first.
    words: Vec<String>,
    /// What variables stand for in a document from afar: its author is not to learn it.
    variables: Vec<String>,
}

impl std::fmt::Debug for Veil {
    /// Only how much there is.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Veil of {} secrets", self.words.len())
    }
}

impl Veil {
    /// Over texts by their path, when these are all options there are.
    #[must_use]
    pub fn over(texts: &BTreeMap<String, String>, options: &[&[OptionSpec]]) -> Veil {
        let mut veil = Veil::default();
        for (path, text) in texts {
            let mut search = Search {
                text,
                options,
                sql: Vec::new(),
                found: Vec::new(),
                words: Vec::new(),
                guesses: Cell::new(GUESSES_MAX),
            };
            search.toml();
            search.sql();
            // What is no TOML and never was meant to be is not broken.
            if !path.ends_with(".sql") && !path.starts_with(sql_texts::INLINE) {
                search.broken_toml();
            }
            search.found.sort_by_key(|literal| literal.span.start);
            veil.literals.insert(path.clone(), search.found);
            veil.words.extend(search.words);
        }
        veil.words
            .retain(|word| word.chars().count() >= WORD_CHARS_MIN);
        veil.words
            .sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        veil.words.dedup();
        veil
    }

    /// The text with every secret replaced by `[hidden]`, in quotes.
    #[must_use]
    pub fn redact(&self, path: &str, text: &str) -> String {
        self.cover(path, text, |part| match part.chars().next() {
            Some(quote @ ('"' | '\'')) => format!("{quote}{HIDDEN}{quote}"),
            _ => HIDDEN.to_owned(),
        })
    }

    /// The text with stars in place of every character of a secret, so that lines and columns
    /// stay.
    #[must_use]
    pub fn mask(&self, path: &str, text: &str) -> String {
        let star = |c: char| if matches!(c, '\n' | '\r') { c } else { '*' };
        self.cover(path, text, |part| part.chars().map(star).collect())
    }

    /// A sentence without any secret.
    #[must_use]
    pub fn sentence(&self, text: &str) -> String {
        let words = self.words.iter().chain(&self.variables);
        cover(text, spans_of(words, text), |_| HIDDEN.to_owned())
    }

    /// Keeps what variables stand for out of sentences, too.
    pub fn note_variables(&mut self, values: impl IntoIterator<Item = String>) {
        let long = |value: &String| value.chars().count() >= WORD_CHARS_MIN;
        self.variables.extend(values.into_iter().filter(long));
        self.variables.sort();
        self.variables.dedup();
    }

    /// A value without what variables stand for.
    #[must_use]
    pub fn value(&self, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) => {
                let spans = spans_of(self.variables.iter(), &text);
                cover(&text, spans, |_| HIDDEN.to_owned()).into()
            }
            Value::Number(number) if self.variables.contains(&number.to_string()) => Value::Null,
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.into_iter();
                Value::Object(fields.map(|(name, of)| (name, self.value(of))).collect())
            }
            value => value,
        }
    }

    /// Every secret that is written as it is in the text of this path, where only references may
    /// stand.
    #[must_use]
    pub fn faults(&self, path: &str, text: &str) -> Vec<Diagnostic> {
        let named = NamedText::new(path, text);
        let literals = self.literals.get(path).into_iter().flatten();
        let mut faults = Vec::new();
        for literal in literals.filter(|literal| literal.is_value) {
            let message = format!("'{}' must not be written into a document", literal.name);
            let fault = named.error(literal.span.clone(), message);
            let hint = "write ${secret:name}, and put the secret on the node";
            faults.push(fault.with_hint(hint));
        }
        faults.dedup();
        faults
    }

    /// Puts something else in place of what nobody is to see.
    fn cover(&self, path: &str, text: &str, instead: impl Fn(&str) -> String) -> String {
        let literals = self.literals.get(path).into_iter().flatten();
        let mut spans: Vec<Range<usize>> = literals.map(|literal| literal.span.clone()).collect();
        spans.extend(spans_of(self.words.iter(), text));
        cover(text, spans, instead)
    }
}

/// Where words stand in a text.
fn spans_of<'a>(words: impl Iterator<Item = &'a String>, text: &str) -> Vec<Range<usize>> {
    let found = words.flat_map(|word| text.match_indices(word.as_str()));
    found.map(|(at, word)| at..at + word.len()).collect()
}

/// Puts something else in place of parts of a text, which may overlap.
fn cover(text: &str, mut spans: Vec<Range<usize>>, instead: impl Fn(&str) -> String) -> String {
    spans.sort_by_key(|span| (span.start, span.end));
    let mut covered: Vec<Range<usize>> = Vec::new();
    for span in spans {
        match covered.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => covered.push(span),
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for span in covered {
        out.push_str(text.get(at..span.start).unwrap_or(""));
        out.push_str(&instead(text.get(span.clone()).unwrap_or("")));
        at = span.end;
    }
    out.push_str(text.get(at..).unwrap_or(""));
    out
}

/// Looks through one text.
struct Search<'a> {
    text: &'a str,
    options: &'a [&'a [OptionSpec]],
    /// Where SQL stands in a configuration.
    sql: Vec<Range<usize>>,
    found: Vec<Literal>,
    words: Vec<String>,
    guesses: Cell<u32>,
}

impl Search<'_> {
    /// The values of a configuration, as far as it is one.
    fn toml(&mut self) {
        let (table, _) = DeTable::parse_recoverable(self.text);
        self.table("", table.get_ref());
    }

    /// Depth is bounded by the TOML parser.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            self.value(&format!("{prefix}{}", key.get_ref()), value);
        }
    }

    fn value(&mut self, name: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(inner) => self.table(&format!("{name}."), inner),
            DeValue::Array(items) => {
                for item in items {
                    self.value(name, item);
                }
            }
            DeValue::String(text) if name == sql_texts::KEY => self.inline(text, value.span()),
            DeValue::String(text) => self.named(name, text, value.span()),
            DeValue::Integer(number) => self.named(name, number.as_str(), value.span()),
            DeValue::Float(number) => self.named(name, number.as_str(), value.span()),
            DeValue::Boolean(_) | DeValue::Datetime(_) => {
                let written = self.text.get(value.span()).unwrap_or("").to_owned();
                self.named(name, &written, value.span());
            }
        }
    }

    /// A value by its full name, such as `streams.Readings.mqtt.password`: an option's is an end
    /// of it.
    fn named(&mut self, name: &str, text: &str, span: Range<usize>) {
        let ends = name.match_indices('.').map(|(at, _)| at + 1);
        let ends = std::iter::once(0).chain(ends);
        let ends: Vec<&str> = ends.filter_map(|at| name.get(at..)).collect();
        let is_known = |end: &&str| self.is_known_secret(end).is_some();
        let secret = ends
            .iter()
            .find(|end| self.is_known_secret(end) == Some(true))
            .or_else(|| match ends.iter().any(is_known) {
                true => ends
                    .iter()
                    .find(|end| is_known(end) && login_of(end, text).is_some()),
                false => ends.iter().find(|end| self.is_like_a_secret(end)),
            });
        if let Some(end) = secret.filter(|end| !is_harmless(end, text) && !is_reference(text)) {
            self.take(end, text, span, true);
        }
    }

    /// SQL in a configuration: where it stands there letter by letter, it is searched there.
    fn inline(&mut self, text: &str, span: Range<usize>) {
        let written = self.text.get(span.clone()).unwrap_or("");
        let is_verbatim = written.contains(text);
        self.sql.push(span.clone());
        if is_verbatim {
            return;
        }
        for (name, _, value) in assignments(text) {
            if self.is_secret(&name, &value) {
                self.take(&name, &value, span.clone(), true);
            }
        }
    }

    /// `'name' = 'value'` wherever it stands, also in a comment.
    fn sql(&mut self) {
        for (name, span, value) in assignments(self.text) {
            if self.is_secret(&name, &value) {
                let is_value = self
                    .sql
                    .iter()
                    .any(|sql| sql.contains(&span.start) && sql.end >= span.end);
                self.take(&name, &value, span, is_value);
            }
        }
    }

    /// What looks like a key and its value where a text is not TOML, to the end of the line or of
    /// its quotes.
    fn broken_toml(&mut self) {
        let (_, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return;
        }
        for (at, _) in self.text.match_indices('=') {
            let before = self.text.get(..at).unwrap_or("").trim_end();
            let before = before.trim_end_matches(['"', '\'']);
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
            let from = before.rfind(|c| !is_part(c)).map_or(0, |at| at + 1);
            let name = before
                .get(from..)
                .unwrap_or("")
                .trim_start_matches('\u{fffd}');
            let last = name.rsplit('.').next().unwrap_or(name);
            if name.is_empty() || !(self.is_secret(name, "") || self.is_last_of_secret(last)) {
                continue;
            }
            let rest = self.text.get(at + 1..).unwrap_or("");
            let value = rest.trim_start_matches([' ', '\t']);
            let start = self.text.len() - value.len();
            let length = ["\"\"\"", "'''"]
                .into_iter()
                .find_map(|quotes| {
                    let inner = value.strip_prefix(quotes)?;
                    let end = inner.find(quotes).map(|end| end + 2 * quotes.len());
                    Some(end.unwrap_or(value.len()))
                })
                .unwrap_or_else(|| value.find('\n').unwrap_or(value.len()));
            if !is_reference(value.get(..length).unwrap_or("")) {
                let name = name.to_owned();
                self.take(&name, "", start..start + length, false);
            }
        }
    }

    fn take(&mut self, name: &str, text: &str, span: Range<usize>, is_value: bool) {
        let literal = Literal {
            name: name.to_owned(),
            span,
            is_value,
        };
        let login = login_of(name, text).unwrap_or_default();
        let password = login
            .split_once(':')
            .map_or(login, |(_, password)| password);
        self.words.push(password.to_owned());
        self.words.push(text.to_owned());
        self.words.push(text.replace('\'', "''"));
        self.words.extend(text.lines().map(str::to_owned));
        let known = self.found.iter_mut().find(|known| {
            known.span.start < literal.span.end && literal.span.start < known.span.end
        });
        match known {
            Some(known) if known.is_value || !is_value => {
                known.span.end = known.span.end.max(literal.span.end);
                known.span.start = known.span.start.min(literal.span.start);
            }
            _ => self.found.push(literal),
        }
    }

    /// Whether this text of an option with this name is a secret, and not a reference to one.
    fn is_secret(&self, name: &str, text: &str) -> bool {
        let known = self.is_known_secret(name);
        let secret = known.unwrap_or_else(|| self.is_like_a_secret(name));
        let secret = secret || login_of(name, text).is_some();
        secret && !is_reference(text) && !is_harmless(name, text)
    }

    /// Whether an option is a secret; none: there is no such option.
    fn is_known_secret(&self, name: &str) -> Option<bool> {
        let mut known = self.options.iter().filter_map(|table| find(&[table], name));
        let first = known.next()?;
        Some(first.secret || known.any(|spec| spec.secret))
    }

    /// Whether a name that nobody knows was probably meant to be a secret's.
    fn is_like_a_secret(&self, name: &str) -> bool {
        let Some((_, last)) = name.rsplit_once('.') else {
            return false;
        };
        let last = last.to_ascii_lowercase();
        if TELLING.iter().any(|part| last.contains(part)) {
            return true;
        }
        let left = self.guesses.get();
        self.guesses.set(left.saturating_sub(1));
        let all = self.options.iter().copied().flatten();
        let secrets = all.filter(|spec| spec.secret).map(|spec| spec.name);
        left > 0 && nearest(name, secrets).is_some()
    }

    fn is_last_of_secret(&self, last: &str) -> bool {
        let mut secrets = self.options.iter().copied().flatten();
        secrets.any(|spec| spec.secret && spec.name.rsplit('.').next() == Some(last))
    }
}

/// What is written for secrets and is none: the file of a key, a header that everybody sends.
fn is_harmless(name: &str, text: &str) -> bool {
    if let Some(header) = name.strip_prefix("http.header.") {
        return PLAIN_HEADERS.contains(&header.to_ascii_lowercase().as_str());
    }
    name.ends_with("tls.key") && !text.is_empty() && !text.contains(PEM_BEGIN)
}

/// User and password in a URL, where connectors want none.
fn login_of<'a>(name: &str, text: &'a str) -> Option<&'a str> {
    let is_url = ["broker", "url"].iter().any(|end| name.ends_with(end));
    let mut urls = text.split(',').map(str::trim);
    urls.find_map(|url| {
        let authority = match url.split_once("://") {
            Some((_, rest)) => rest,
            None if is_url => url,
            None => return None,
        };
        let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
        let (login, _) = authority.get(..end)?.rsplit_once('@')?;
        Some(login)
    })
}

/// Every `'name' = 'value'`, `"name" = 'value'` and `name = 'value'` in a text, with the span of
/// the value with its quotes and the value without; comments are looked into, too.
fn assignments(text: &str) -> Vec<(String, Range<usize>, String)> {
    let mut found = Vec::new();
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let is_quote = matches!(c, '\'' | '"');
        let begins = is_quote || (is_word(c) && !is_word(before) && before != '.');
        before = c;
        if !begins {
            continue;
        }
        let rest = text.get(at..).unwrap_or("");
        let Some((name, after)) = name_of(rest) else {
            continue;
        };
        let Some(after) = skip(after).strip_prefix('=') else {
            continue;
        };
        let value = skip(after);
        if let Some((value_text, length)) = string_of(value) {
            let start = text.len() - value.len();
            found.push((name, start..start + length, value_text));
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '#')
}

/// A name in quotes, or words with dots between them; and what follows.
fn name_of(text: &str) -> Option<(String, &str)> {
    if let Some(quote @ ('\'' | '"')) = text.chars().next() {
        let inner = text.get(1..)?;
        let end = inner
            .bytes()
            .take(NAME_BYTES_MAX)
            .position(|byte| byte == b'\n' || char::from(byte) == quote)?;
        let (name, rest) = inner.split_at_checked(end)?;
        return Some((name.to_owned(), rest.strip_prefix(quote)?));
    }
    let mut name = String::new();
    let mut rest = text;
    loop {
        let quoted = rest.strip_prefix('"');
        let (part, after) = match quoted {
            Some(inner) => inner.split_once('"')?,
            None => rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
        };
        name.push_str(part);
        match skip(after).strip_prefix('.') {
            Some(more) if name.len() <= NAME_BYTES_MAX => {
                name.push('.');
                rest = skip(more);
            }
            Some(_) => return None,
            None => return (!name.is_empty()).then_some((name, after)),
        }
    }
}

/// Passes over blanks, and over some comments that are not too long.
fn skip(mut text: &str) -> &str {
    for _ in 0..COMMENTS_MAX {
        text = text.trim_start();
        let end = match text.as_bytes() {
            [b'-', b'-', ..] => b"\n".as_slice(),
            [b'/', b'*', ..] => b"*/".as_slice(),
            _ => return text,
        };
        let near = text.as_bytes().get(..COMMENT_BYTES_MAX);
        let near = near.unwrap_or(text.as_bytes());
        let mut places = near.windows(end.len()).skip(2);
        let Some(at) = places.position(|place| place == end) else {
            return text;
        };
        text = text.get(at + 2 + end.len()..).unwrap_or("");
    }
    text.trim_start()
}

/// A string in single quotes, of which two are one inside; and how long it is. One that does not
/// end goes to the end of the text.
fn string_of(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.strip_prefix('\'')?.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\'' && chars.next_if(|(_, next)| *next == '\'').is_none() {
            return Some((value, at + 2));
        }
        value.push(c);
    }
    Some((value, text.len()))
}

#[cfg(test)]
mod tests;
