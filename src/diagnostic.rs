//! What is wrong with a text that a person wrote, where exactly, and what was probably meant.
//!
//! Used for SQL and for TOML alike, so that a mistake reads the same locally and from afar.

use std::fmt::Write as _;

/// The most characters of a line that are shown.
const SHOWN_MAX: usize = 160;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing runs until this is mended.
    Error,
    /// It runs, but somebody should know.
    Warning,
}

/// A place in a text; lines and columns count from 1, columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// How many characters are meant; 0 and 1 both draw one caret.
    pub length: u32,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file, or a word like `inline` when there is none.
    pub path: String,
    /// Where in it; absent when the finding is about the whole.
    pub place: Option<Place>,
    /// What is wrong: a lower-case sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    #[must_use]
    pub fn error(path: &str, place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            path: path.to_owned(),
            place: Some(place),
            message: message.into(),
            hint: None,
        }
    }

    /// A warning at a place.
    #[must_use]
    pub fn warning(path: &str, place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(path, place, message)
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// The same with advice if there is any.
    #[must_use]
    pub fn with_hint_if(mut self, hint: Option<String>) -> Diagnostic {
        self.hint = hint;
        self
    }

    /// The finding with the line it is about and a caret below the place. `text` is the whole
    /// text that `path` names.
    #[must_use]
    pub fn render(&self, text: &str) -> String {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut out = String::new();
        let Some(place) = self.place else {
            let _ = write!(out, "{}: {word}: {}", self.path, self.message);
            if let Some(hint) = &self.hint {
                let _ = write!(out, "; {hint}");
            }
            out.push('\n');
            return out;
        };
        let _ = writeln!(
            out,
            "{}:{}:{}: {word}: {}",
            self.path, place.line, place.column, self.message
        );
        let number = place.line.to_string();
        let line_index = usize::try_from(place.line.saturating_sub(1)).unwrap_or(usize::MAX);
        if let Some(line) = text.lines().nth(line_index) {
            let column = usize::try_from(place.column.saturating_sub(1)).unwrap_or(0);
            // Of a line too long to be read, the part around the place is shown.
            let skipped = if line.chars().count() > SHOWN_MAX {
                column.saturating_sub(SHOWN_MAX / 2)
            } else {
                0
            };
            let shown: String = line.chars().skip(skipped).take(SHOWN_MAX).collect();
            let before: String = shown
                .chars()
                .take(column - skipped)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let carets = "^".repeat(usize::try_from(place.length.clamp(1, 100)).unwrap_or(1));
            let margin = " ".repeat(number.len());
            let _ = writeln!(out, " {number} | {shown}\n {margin} | {before}{carets}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "   = {hint}");
        }
        out
    }

    /// `{"path", "line", "col", "message", "hint"}`, without the line that it is about; what it
    /// does not have is `null`.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "path": self.path,
            "line": self.place.map(|place| place.line),
            "col": self.place.map(|place| place.column),
            "message": self.message,
            "hint": self.hint,
        })
    }
}

/// `; did you mean 'x'?` material: the candidate nearest to `word`, when one is near enough.
///
/// Distance is optimal string alignment (Damerau–Levenshtein without repeated edits) over
/// lower-cased characters; a third of the word's length may differ, at least one character.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The hint `did you mean 'x'?` for the candidate nearest to `word`.
#[must_use]
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean '{candidate}'?"))
}

fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX);
            let mut best = at(&last, j)
                .saturating_add(usize::from(x != y))
                .min(at(&last, j + 1).saturating_add(1))
                .min(at(&row, j).saturating_add(1));
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before_last, j - 1).saturating_add(1));
            }
            row.push(best);
        }
        before_last = last;
        last = row;
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let names = ["temperature", "humidity", "ts"];
        assert_eq!(nearest("temprature", names), Some("temperature"));
        assert_eq!(nearest("TEMPERATURE", names), Some("temperature"));
        assert_eq!(nearest("st", names), Some("ts"));
        assert_eq!(nearest("pressure", names), None);
    }

    #[test]
    fn json_has_the_findings_of_one_kind() {
        let place = Place {
            line: 2,
            column: 8,
            length: 3,
        };
        let found = [
            Diagnostic::error("a", place, "wrong").with_hint("do it right"),
            Diagnostic {
                place: None,
                ..Diagnostic::error("c", place, "missing")
            },
        ];
        let shown: Vec<serde_json::Value> = found.iter().map(Diagnostic::json).collect();
        assert_eq!(
            serde_json::Value::from(shown),
            serde_json::json!([
                {"path": "a", "line": 2, "col": 8, "message": "wrong", "hint": "do it right"},
                {"path": "c", "line": null, "col": null, "message": "missing", "hint": null},
            ])
        );
    }

    #[test]
    fn the_caret_stands_below_the_place() {
        let place = Place {
            line: 2,
            column: 8,
            length: 3,
        };
        let shown = Diagnostic::error("a.sql", place, "unknown column 'tmp'")
            .with_hint("did you mean 'temp'?")
            .render("-- x\nSELECT tmp FROM S");
        assert_eq!(
            shown,
            "a.sql:2:8: error: unknown column 'tmp'\n 2 | SELECT tmp FROM S\n   |        ^^^\n   \
             = did you mean 'temp'?\n"
        );
    }
}
