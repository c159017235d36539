//! What nodes report, as somebody reads it. It came from afar: nothing in it is relied upon, and
//! nothing of it can move the cursor of a terminal.

use serde_json::Value;

use crate::control::Scope;
use crate::diagnostic::{Diagnostic, Place, Severity};

/// A report on a document, as far as it can be read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Report(Value);

impl Report {
    pub(super) fn read(payload: &[u8]) -> Option<Report> {
        let value: Value = serde_json::from_slice(payload).ok()?;
        value.is_object().then_some(Report(value))
    }

    pub(super) fn status(&self) -> &str {
        self.text("status").unwrap_or("unknown")
    }

    pub(super) fn phase(&self) -> Option<&str> {
        self.text("phase")
    }

    pub(super) fn code(&self) -> Option<&str> {
        self.text("code")
    }

    /// The revision and the SHA-256 of what is `desired` or `active`.
    pub(super) fn document(&self, which: &str) -> (Option<u64>, Option<&str>) {
        let document = self.0.get(which);
        let rev = document.and_then(|document| document.get("rev")?.as_u64());
        let sha256 = document.and_then(|document| document.get("sha256")?.as_str());
        (rev, sha256)
    }

    /// The highest revision that the node has used for this scope. What it has refused does not
    /// count: anybody could have written that.
    pub(super) fn revision_used(&self, scope: &Scope) -> u64 {
        let accepted = self.0.get("accepted");
        let accepted = accepted.and_then(|all| all.get(scope.to_string())?.as_u64());
        let desired = self.document("desired").0;
        let desired = desired.filter(|_| !matches!(self.status(), "rejected" | "expired"));
        accepted.or(desired).unwrap_or(0)
    }

    /// Whether what is on probation stays only when an operator says so.
    pub(super) fn awaits_operator(&self) -> bool {
        self.text("awaits") == Some("operator")
    }

    /// The group that the desired document was for.
    pub(super) fn desired_scope(&self) -> Option<&str> {
        self.0.get("desired")?.get("scope")?.as_str()
    }

    /// What is wrong, or to be known, as `check` shows it; `name` is the document's own name, and
    /// `content` what is in it.
    pub(super) fn findings(&self, which: &str, name: &str, content: &str) -> Vec<String> {
        let severity = match which {
            "errors" => Severity::Error,
            _ => Severity::Warning,
        };
        let findings = self.0.get(which).and_then(Value::as_array);
        let findings = findings.into_iter().flatten();
        findings
            .map(|finding| rendered(finding, severity, name, content))
            .collect()
    }

    /// What has changed, in a line.
    pub(super) fn changed(&self) -> Option<String> {
        let changed = self.0.get("changed")?;
        let parts = ["added", "removed", "restarted", "kept"].into_iter();
        let parts = parts.filter_map(|part| match changed.get(part)? {
            Value::Array(all) if all.is_empty() => None,
            Value::Array(all) => {
                let names = all.iter().filter_map(Value::as_str).map(clean);
                let names: Vec<String> = names.collect();
                Some(format!("{part} {}", names.join(", ")))
            }
            Value::Number(count) => Some(format!("{part} {count}")),
            _ => None,
        });
        let parts: Vec<String> = parts.collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

/// The name of a document in what a node says of it.
const DOCUMENT: &str = "desired.toml";

fn rendered(finding: &Value, severity: Severity, name: &str, content: &str) -> String {
    let text = |part: &str| finding.get(part).and_then(Value::as_str).map(clean);
    let number = |part: &str| {
        let number = finding.get(part).and_then(Value::as_u64)?;
        u32::try_from(number).ok()
    };
    let message = finding.as_str().map(clean).or_else(|| text("message"));
    let path = text("path").unwrap_or_default();
    let (path, content) = match path.as_str() {
        DOCUMENT => (name, content),
        other => (other, ""),
    };
    let place = match (number("line"), number("col")) {
        (Some(line), column) => Some(Place {
            line,
            column: column.unwrap_or(1),
            length: 1,
        }),
        (None, _) => None,
    };
    let found = Diagnostic {
        severity,
        path: path.to_owned(),
        place,
        message: message.unwrap_or_default(),
        hint: text("hint"),
    };
    let shown = found.render(content);
    // Without a path there is nothing before the colon.
    let shown = shown.strip_prefix(": ").unwrap_or(&shown);
    shown.trim_end().to_owned()
}

/// A text without control characters.
pub(super) fn clean(text: &str) -> String {
    let visible = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn findings_read_as_those_of_check() {
        let report = json!({"status": "rejected", "errors": [
            {"path": "desired.toml", "line": 2, "col": 1, "message": "unknown key 'nme'",
             "hint": "did you mean 'name'?"},
            {"path": "inline SQL", "line": 1, "col": 8, "message": "unknown column", "hint": null},
            {"path": null, "line": null, "col": null, "message": "alone \u{1b}[2J", "hint": null},
            "a sentence",
        ]});
        let report = Report::read(report.to_string().as_bytes()).unwrap();
        let content = "[application]\nnme = 'x'\n";
        let shown = report.findings("errors", "pump.toml", content);
        let expected = [
            "pump.toml:2:1: error: unknown key 'nme'\n 2 | nme = 'x'\n   | ^\n   = did you mean \
             'name'?",
            "inline SQL:1:8: error: unknown column",
            "error: alone \u{fffd}[2J",
            "error: a sentence",
        ];
        assert_eq!(shown, expected);
        assert_eq!(report.findings("warnings", "", ""), [""; 0]);
    }

    #[test]
    fn any_payload_is_read_as_far_as_it_goes() {
        for odd in ["", "[]", "7", "{"] {
            assert_eq!(Report::read(odd.as_bytes()), None, "{odd}");
        }
        let odd = json!({"status": 7, "desired": [], "active": {"rev": "x", "sha256": null},
            "errors": {}, "changed": {"added": 1.5, "kept": 16, "removed": ["a", 1]}});
        let report = Report::read(odd.to_string().as_bytes()).unwrap();
        assert_eq!(report.status(), "unknown");
        assert_eq!(report.document("desired"), (None, None));
        assert_eq!(report.document("active"), (None, None));
        assert_eq!(report.findings("errors", "", ""), [""; 0]);
        let changed = Some("added 1.5; removed a; kept 16".to_owned());
        assert_eq!(report.changed(), changed);
    }
}
