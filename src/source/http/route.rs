//! Which requests are a stream's, and what of them besides the body becomes columns.

use std::sync::Mutex;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::config::Definition;
use crate::config::options::OptionFault;
use crate::event::{Type, Value};

/// The option that names the path.
pub(super) const PATH: &str = "http.path";
/// The family of options that name what fills a column.
pub(super) const COLUMN: &str = "http.column.";

/// A path, some of whose segments stand for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// Fills this column.
    Any(usize),
}

impl Pattern {
    /// Reads `http.path`: each `{segment}` is the name of a STRING column.
    pub(super) fn parse(definition: &Definition<'_>) -> Result<Pattern, OptionFault> {
        let text = definition.options.text(PATH).unwrap_or("/");
        let fault = |problem: String| OptionFault::new(PATH, problem);
        let Some(rest) = text.strip_prefix('/') else {
            return Err(fault(format!("`{text}` does not begin with `/`")));
        };
        let mut segments = Vec::new();
        for segment in rest.split('/') {
            let name = segment
                .strip_prefix('{')
                .and_then(|name| name.strip_suffix('}'));
            segments.push(match name {
                Some(name) => Segment::Any(column(definition, PATH, name)?),
                None if segment.contains(['{', '}', '?', '#', ' ', '%']) => {
                    let problem = "a segment is plain text, or `{column}` as a whole";
                    return Err(fault(format!("`{segment}`: {problem}")));
                }
                None => Segment::Literal(segment.to_owned()),
            });
        }
        Ok(Pattern(segments))
    }

    /// Whether both take the same paths.
    pub(super) fn is_as(&self, other: &Pattern) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|pair| match pair {
                (Segment::Any(_), Segment::Any(_)) => true,
                (Segment::Literal(one), Segment::Literal(other)) => one == other,
                (Segment::Any(_), Segment::Literal(_)) | (Segment::Literal(_), Segment::Any(_)) => {
                    false
                }
            })
    }

    /// What smaller means more particular: a literal comes before any text.
    pub(super) fn rank(&self) -> Vec<bool> {
        let segments = self.0.iter();
        segments
            .map(|segment| matches!(segment, Segment::Any(_)))
            .collect()
    }

    /// Whether it takes this path.
    pub(super) fn takes(&self, path: &str) -> bool {
        let segments = || path.strip_prefix('/').unwrap_or(path).split('/');
        segments().count() == self.0.len()
            && self.0.iter().zip(segments()).all(|(own, found)| match own {
                Segment::Literal(text) => text == found,
                Segment::Any(_) => !found.is_empty(),
            })
    }

    fn fills(&self, path: &str) -> Vec<(usize, Value)> {
        let segments = path.strip_prefix('/').unwrap_or(path).split('/');
        let pairs = self.0.iter().zip(segments);
        pairs
            .filter_map(|(own, found)| match own {
                Segment::Literal(_) => None,
                Segment::Any(column) => Some((*column, Value::text(&decoded(found, false)))),
            })
            .collect()
    }

    fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Any(column) => Some(*column),
        })
    }
}

fn column(definition: &Definition<'_>, option: &str, name: &str) -> Result<usize, OptionFault> {
    let fault = |problem: String| OptionFault::new(option, problem);
    let index = definition.schema.index_of(name);
    let index = index.ok_or_else(|| fault(format!("the stream has no column `{name}`")))?;
    match definition.schema.fields().get(index) {
        Some(field) if field.ty == Type::String => Ok(index),
        Some(_) | None => Err(fault(format!("column `{name}` is not a STRING"))),
    }
}

/// Where a column's text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Query(String),
    Header(HeaderName),
    Peer,
}

/// All columns that are not of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    parts: Vec<(usize, Part)>,
}

impl Columns {
    /// Reads `http.column.*`.
    pub(super) fn parse(definition: &Definition<'_>) -> Result<Columns, OptionFault> {
        let mut parts = Vec::new();
        for (name, text) in definition.options.family(COLUMN) {
            let option = format!("{COLUMN}{name}");
            let index = column(definition, &option, name)?;
            let part = match text.split_once(':') {
                None if text == "peer" => Part::Peer,
                Some(("query", name)) => Part::Query(name.to_owned()),
                Some(("header", name)) => {
                    Part::Header(crate::http::options::header_name(&option, name)?)
                }
                Some(_) | None => {
                    let problem = "write `query:<name>`, `header:<name>` or `peer`";
                    return Err(OptionFault::new(option, problem));
                }
            };
            parts.push((index, part));
        }
        Ok(Columns { parts })
    }

    /// Which columns are filled by it and by the path.
    pub(super) fn taken(&self, pattern: &Pattern) -> Result<Vec<usize>, OptionFault> {
        let mut taken: Vec<usize> = self.parts.iter().map(|(column, _)| *column).collect();
        for column in pattern.columns() {
            if taken.contains(&column) {
                return Err(OptionFault::new(PATH, "a column is filled twice"));
            }
            taken.push(column);
        }
        Ok(taken)
    }

    /// What fills them for one request. What a request does not have is NULL.
    pub(super) fn fills(
        &self,
        pattern: &Pattern,
        request: &Parts,
        peer: &str,
    ) -> Vec<(usize, Value)> {
        let mut fills = pattern.fills(request.uri.path());
        for (column, part) in &self.parts {
            let text = match part {
                Part::Peer => Some(peer.to_owned()),
                Part::Query(name) => of_query(request.uri.query().unwrap_or_default(), name),
                Part::Header(name) => request
                    .headers
                    .get(name)
                    .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            };
            fills.push((*column, text.map_or(Value::Null, |text| Value::text(&text))));
        }
        fills
    }
}

fn of_query(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&');
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.find(|(known, _)| decoded(known, true) == name);
    found.map(|(_, text)| decoded(text, true))
}

/// Without `%XX`, and in a query without `+`. What is not UTF-8 then is replaced.
fn decoded(text: &str, is_query: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let hex = after.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None if is_query && *first == b'+' => bytes.push(b' '),
            None => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Who may send.
pub(super) struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// Without any, everybody may.
    pub(super) fn new(tokens: &[&str]) -> Tokens {
        Tokens(tokens.iter().map(|token| digest(token)).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the request shows one of them. How long that takes says nothing about any token.
    pub(super) fn admit(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let shown = shown.and_then(|value| std::str::from_utf8(value).ok());
        let shown = shown
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| digest(token.trim()));
        let shown = shown.unwrap_or_default();
        let is_one = self.0.iter().fold(false, |is_one, token| {
            let differs = token
                .iter()
                .zip(&shown)
                .fold(0, |all, (a, b)| all | (a ^ b));
            is_one | (differs == 0)
        });
        self.is_empty() || is_one
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} tokens", self.0.len())
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// So many requests a second, and as many at once: the generic cell rate algorithm (ITU-T I.371).
#[derive(Debug)]
pub(super) struct Rate {
    every: Duration,
    /// When the next request would come that comes neither early nor late.
    due: Mutex<Option<Instant>>,
}

impl Rate {
    pub(super) fn new(per_second: u32) -> Rate {
        Rate {
            every: Duration::from_secs(1) / per_second.max(1),
            due: Mutex::new(None),
        }
    }

    /// Whether there is room for one more now; else when there will be.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut kept = self.due.lock().unwrap_or_else(|lock| lock.into_inner());
        let due = kept.map_or(now, |due| due.max(now));
        let ahead = (due + self.every) - now;
        match ahead.checked_sub(Duration::from_secs(1)) {
            Some(wait) if !wait.is_zero() => Err(wait),
            Some(_) | None => {
                *kept = Some(due + self.every);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{Layer, OptionValue, Options};
    use crate::event::{Field, Schema};

    fn with<T>(
        all: &[(&str, &str)],
        read: impl FnOnce(&Definition<'_>) -> Result<T, OptionFault>,
    ) -> Result<T, OptionFault> {
        let mut options = Options::default();
        for (name, text) in all {
            options.set(name, OptionValue::Text((*text).to_owned()), Layer::Sql);
        }
        let field = |name: &str, ty| Field {
            name: name.to_owned(),
            ty,
        };
        let schema = Schema::new(vec![
            field("site", Type::String),
            field("device", Type::String),
            field("n", Type::Long),
        ]);
        read(&Definition {
            stream: "S",
            extension: "http",
            format: "json",
            options: &options,
            schema: &schema,
            client_id: "",
        })
    }

    fn pattern(path: &str) -> Result<Pattern, OptionFault> {
        with(&[(PATH, path)], Pattern::parse)
    }

    #[test]
    fn paths() {
        let cases = [
            ("/", "/", true),
            ("/", "/a", false),
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/b/", false),
            ("/a/{site}", "/a/x", true),
            ("/a/{site}", "/a/", false),
            ("/a/{site}", "/a/x/y", false),
            ("/{site}/x/{device}", "/1/x/2", true),
        ];
        for (own, path, expected) in cases {
            assert_eq!(pattern(own).unwrap().takes(path), expected, "{own} {path}");
        }
        let fills = pattern("/{site}/x/{device}").unwrap();
        let fills = fills.fills("/plant%207/x/a+b%2");
        let expected = [(0, Value::text("plant 7")), (1, Value::text("a+b%2"))];
        assert_eq!(fills, expected);
        assert!(pattern("/{site}/b").unwrap() != pattern("/{device}/b").unwrap());
        assert!(
            pattern("/{site}/b")
                .unwrap()
                .is_as(&pattern("/{device}/b").unwrap())
        );
        assert!(pattern("/a").unwrap().rank() < pattern("/{site}").unwrap().rank());
        for bad in ["a", "/{n}", "/{none}", "/x{site}", "/a?b", "/a b"] {
            assert_eq!(pattern(bad).unwrap_err().option, PATH, "{bad}");
        }
    }

    #[test]
    fn columns() {
        let all = [
            ("http.column.site", "query:s"),
            ("http.column.device", "header:X-Device"),
        ];
        let columns = with(&all, Columns::parse).unwrap();
        let request = hyper::Request::get("/?a=b&s=plant+7%21&s=2").body(());
        let (request, ()) = request.unwrap().into_parts();
        let fills = columns.fills(&pattern("/").unwrap(), &request, "::1");
        let expected = [(1, Value::Null), (0, Value::text("plant 7!"))];
        assert!(
            expected.iter().all(|fill| fills.contains(fill)),
            "{fills:?}"
        );
        assert!(columns.taken(&pattern("/{site}").unwrap()).is_err());
        assert_eq!(columns.taken(&pattern("/").unwrap()).unwrap().len(), 2);
        for bad in [
            ("http.column.n", "peer"),
            ("http.column.none", "peer"),
            ("http.column.site", "cookie:x"),
            ("http.column.site", "header:a b"),
        ] {
            assert_eq!(with(&[bad], Columns::parse).unwrap_err().option, bad.0);
        }
    }

    #[test]
    fn tokens() {
        let tokens = Tokens::new(&["one", "two"]);
        let cases = [
            (Some("Bearer one"), true),
            (Some("bearer  two "), true),
            (Some("Bearer three"), false),
            (Some("Bearer "), false),
            (Some("Basic one"), false),
            (Some("one"), false),
            (None, false),
        ];
        for (shown, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(shown) = shown {
                headers.insert(AUTHORIZATION, shown.parse().unwrap());
            }
            assert_eq!(tokens.admit(&headers), expected, "{shown:?}");
        }
        assert!(Tokens::new(&[]).admit(&HeaderMap::new()));
    }

    #[test]
    fn so_many_a_second() {
        let rate = Rate::new(10);
        let now = Instant::now();
        assert_eq!((0..20).filter(|_| rate.admit(now).is_ok()).count(), 10);
        assert_eq!(rate.admit(now), Err(Duration::from_millis(100)));
        let later = now + Duration::from_millis(300);
        assert_eq!((0..20).filter(|_| rate.admit(later).is_ok()).count(), 3);
    }
}
