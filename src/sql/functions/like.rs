//! LIKE: `%` stands for any characters, `_` for one.

/// A pattern, taken apart once.
pub(crate) struct LikePattern {
    parts: Vec<Part>,
    ignore_case: bool,
}

#[derive(PartialEq)]
enum Part {
    Any,
    One,
    Exactly(char),
}

impl LikePattern {
    pub(crate) fn new(pattern: &str, escape: Option<char>, ignore_case: bool) -> LikePattern {
        let mut parts = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            let part = match c {
                c if Some(c) == escape => Part::Exactly(chars.next().unwrap_or(c)),
                '%' => Part::Any,
                '_' => Part::One,
                c => Part::Exactly(c),
            };
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        LikePattern { parts, ignore_case }
    }

    /// Greedy with one point of return, the last `%`: linear in practice, never exponential.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut rest = text.chars();
        let mut at = 0;
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let part = self.parts.get(at);
            if part == Some(&Part::Any) {
                at += 1;
                retry = Some((at, rest.clone()));
                continue;
            }
            let before = rest.clone();
            let fits = match (rest.next(), part) {
                (None, None) => return true,
                (Some(_), Some(Part::One)) => true,
                (Some(c), Some(Part::Exactly(wanted))) => self.same(c, *wanted),
                _ => false,
            };
            if fits {
                at += 1;
                continue;
            }
            if before.as_str().is_empty() {
                return false;
            }
            let Some((after_any, mut from)) = retry.take() else {
                return false;
            };
            from.next();
            rest = from.clone();
            at = after_any;
            retry = Some((after_any, from));
        }
    }

    fn same(&self, a: char, b: char) -> bool {
        a == b || (self.ignore_case && a.to_lowercase().eq(b.to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_sql() {
        let table = [
            ("sensor-1", "sensor-%", None, true),
            ("sensor-1", "s%r-_", None, true),
            ("sensor", "sensor_", None, false),
            ("", "%", None, true),
            ("", "_", None, false),
            ("abcabd", "%abd", None, true),
            ("aXbXc", "a%X%c", None, true),
            ("100%", "100\\%", Some('\\'), true),
            ("100x", "100\\%", Some('\\'), false),
            ("grün", "gr_n", None, true),
            ("abc", "abc%%", None, true),
            ("abc", "ab", None, false),
        ];
        for (text, pattern, escape, expected) in table {
            assert_eq!(
                LikePattern::new(pattern, escape, false).matches(text),
                expected,
                "{text} LIKE {pattern}"
            );
        }
        assert!(LikePattern::new("ÄB%", None, true).matches("äbc"));
    }
}
