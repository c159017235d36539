//! What the node tells as it happens: what connectors and the pipeline report, and what becomes of
//! documents and requests.

use serde_json::{Value, json};

use crate::event::{Report, Timestamp};

/// What was reported, as it is published; heard at `ts`.
#[must_use]
pub fn event(report: &Report, ts: Timestamp) -> Value {
    let Report {
        kind,
        stream,
        reason,
        duration_ms,
        details,
    } = report;
    // Whoever reports writes the text of an object; one that is none is shown as it is.
    let details = details
        .as_ref()
        .map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())));
    json!({
        "v": 1,
        "ts": ts.utc(),
        "event": kind.word(),
        "stream": stream,
        "reason": reason,
        "duration_ms": duration_ms,
        "details": details,
    })
}

/// What has become of a document or of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// A document is in force, on probation where it has one.
    Applied,
    /// A document was refused.
    Rejected,
    /// A document was in force and is taken back.
    RolledBack,
    /// A document has proved itself.
    Confirmed,
    /// A request was obeyed or refused.
    Request,
}

impl Audit {
    /// As it is published.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Audit::Applied => "config.applied",
            Audit::Rejected => "config.rejected",
            Audit::RolledBack => "config.rolled_back",
            Audit::Confirmed => "config.confirmed",
            Audit::Request => "request",
        }
    }

    /// The event: why it came to that, and more of it as an object.
    #[must_use]
    pub fn event(self, reason: &str, details: &Value, ts: Timestamp) -> Value {
        json!({
            "v": 1,
            "ts": ts.utc(),
            "event": self.word(),
            "reason": reason,
            "details": details,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ReportKind;

    const TS: Timestamp = Timestamp(1_795_262_400_250);

    #[test]
    fn a_report_is_published_with_its_details_as_json() {
        let report = Report {
            reason: "connection refused".to_owned(),
            duration_ms: Some(1_500),
            details: Some("{\"attempts\":3}".to_owned()),
            ..Report::new(ReportKind::SourceDown, "Readings")
        };
        assert_eq!(
            event(&report, TS),
            json!({
                "v": 1, "ts": "2026-11-21T12:00:00.250Z", "event": "source.down",
                "stream": "Readings", "reason": "connection refused", "duration_ms": 1500,
                "details": {"attempts": 3},
            })
        );
        assert_eq!(
            event(&Report::new(ReportKind::ConfigChanged, ""), TS),
            json!({
                "v": 1, "ts": "2026-11-21T12:00:00.250Z", "event": "config.changed", "stream": "",
                "reason": "", "duration_ms": null, "details": null,
            })
        );
    }

    #[test]
    fn what_becomes_of_a_document_is_an_event_too() {
        assert_eq!(
            Audit::RolledBack.event("E_HEALTH: `Readings` is not open", &json!({"rev": 42}), TS),
            json!({
                "v": 1, "ts": "2026-11-21T12:00:00.250Z", "event": "config.rolled_back",
                "reason": "E_HEALTH: `Readings` is not open", "details": {"rev": 42},
            })
        );
    }
}
