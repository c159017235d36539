//! The windows: names, arguments, documentation.

/// How a window is declared.
#[derive(Debug)]
pub struct WindowSpec {
    /// Every spelling; the first is the one shown.
    pub names: &'static [&'static str],
    /// The arguments, for messages and documentation.
    pub arguments: &'static str,
    /// One line of documentation.
    pub doc: &'static str,
    /// Which window it is.
    pub kind: WindowKind,
}

/// The windows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// `'length'`
    Length,
    /// `'time'`
    Time,
    /// `'timeLength'`
    TimeLength,
    /// `'externalTime'`
    ExternalTime,
    /// `'delay'`
    Delay,
    /// `'sort'`
    Sort,
    /// `'unique'`
    Unique,
    /// `'firstUnique'`
    FirstUnique,
    /// `'uniqueLength'`
    UniqueLength,
    /// `'firstUniqueLength'`
    FirstUniqueLength,
    /// `'uniqueTime'`
    UniqueTime,
    /// `'firstUniqueTime'`
    FirstUniqueTime,
    /// `'frequent'`
    Frequent,
    /// `'lossyFrequent'`
    LossyFrequent,
    /// `'expression'`
    Expression,
    /// `'lengthBatch'`
    LengthBatch,
    /// `'timeBatch'`
    TimeBatch,
    /// `'tumbling'`
    Tumbling,
    /// `'hop'`
    Hop,
    /// `'externalTimeBatch'`
    ExternalTimeBatch,
    /// `'session'`
    Session,
    /// `'cron'`
    Cron,
    /// `'expressionBatch'`
    ExpressionBatch,
    /// `'state'`
    State,
    /// `'batch'`
    Batch,
}

impl WindowSpec {
    const fn new(
        kind: WindowKind,
        names: &'static [&'static str],
        arguments: &'static str,
        doc: &'static str,
    ) -> WindowSpec {
        WindowSpec {
            names,
            arguments,
            doc,
            kind,
        }
    }

    /// The call as documentation shows it.
    #[must_use]
    pub fn call(&self) -> String {
        let name = self.names.first().copied().unwrap_or_default();
        if self.arguments.is_empty() {
            format!("WINDOW('{name}')")
        } else {
            format!("WINDOW('{name}', {})", self.arguments)
        }
    }
}

/// Every window.
pub const WINDOWS: &[WindowSpec] = &[
    WindowSpec::new(WindowKind::Length, &["length"], "rows", "the last n rows"),
    WindowSpec::new(
        WindowKind::Time,
        &["time"],
        "span",
        "the rows of the last span",
    ),
    WindowSpec::new(
        WindowKind::TimeLength,
        &["timeLength"],
        "span, rows",
        "the last n rows, as long as they are of the last span",
    ),
    WindowSpec::new(
        WindowKind::ExternalTime,
        &["externalTime"],
        "time, span",
        "the rows of the last span by a time of their own (milliseconds), which alone \
         moves the window; a row whose time is older than the newest seen, or NULL, \
         counts as of the newest",
    ),
    WindowSpec::new(
        WindowKind::Delay,
        &["delay"],
        "span",
        "rows come in span later, and stay",
    ),
    WindowSpec::new(
        WindowKind::Sort,
        &["sort"],
        "rows, key [, 'asc' or 'desc'], …",
        "the n rows that come first in this order; the one that falls out leaves, \
         before the new row is given unless it is the new row itself",
    ),
    WindowSpec::new(
        WindowKind::Unique,
        &["unique"],
        "key, …",
        "the latest row of each key; the one before leaves. NULL is a key like others",
    ),
    WindowSpec::new(
        WindowKind::FirstUnique,
        &["firstUnique"],
        "key, …",
        "the first row of each key; later ones are passed over",
    ),
    WindowSpec::new(
        WindowKind::UniqueLength,
        &["uniqueLength"],
        "key, …, rows",
        "the latest row of each of the n keys that came last",
    ),
    WindowSpec::new(
        WindowKind::FirstUniqueLength,
        &["firstUniqueLength"],
        "key, …, rows",
        "the first row of each key; of more than n the oldest leaves",
    ),
    WindowSpec::new(
        WindowKind::UniqueTime,
        &["uniqueTime"],
        "key, …, span",
        "the latest row of each key, as long as it is of the last span",
    ),
    WindowSpec::new(
        WindowKind::FirstUniqueTime,
        &["firstUniqueTime", "deduplicate"],
        "key, …, span",
        "the first row of each key within span; later ones are passed over",
    ),
    WindowSpec::new(
        WindowKind::Frequent,
        &["frequent"],
        "keys [, key, …]",
        "the latest row of each of the n keys that come most often (Misra–Gries); rows \
         of other keys are passed over. Without a key all columns are it",
    ),
    WindowSpec::new(
        WindowKind::LossyFrequent,
        &["lossyFrequent"],
        "support, error [, key, …]",
        "the latest row of each key that makes up at least support − error of all rows \
         (lossy counting); rows of other keys are passed over. Without a key all \
         columns are it",
    ),
    WindowSpec::new(
        WindowKind::Expression,
        &["expression"],
        "condition",
        "the latest rows for which the condition holds: the oldest leave until it does",
    ),
    WindowSpec::new(
        WindowKind::LengthBatch,
        &["lengthBatch"],
        "rows",
        "every n rows",
    ),
    WindowSpec::new(
        WindowKind::TimeBatch,
        &["timeBatch"],
        "span [, start]",
        "every span, from the first row or from start (milliseconds since the epoch)",
    ),
    WindowSpec::new(
        WindowKind::Tumbling,
        &["tumbling"],
        "span [, offset] [, 'timezone' = '…']",
        "every span, aligned to the epoch plus offset; with a time zone, whole days \
         from midnight to midnight there",
    ),
    WindowSpec::new(
        WindowKind::Hop,
        &["hop", "hopping", "sliding"],
        "size, hop",
        "the rows of the last size, every hop, aligned to the epoch",
    ),
    WindowSpec::new(
        WindowKind::ExternalTimeBatch,
        &["externalTimeBatch"],
        "time, span [, start [, timeout]]",
        "every span by a time of the rows (milliseconds), from the first row's or from \
         start; timeout after the last row it closes all the same",
    ),
    WindowSpec::new(
        WindowKind::Session,
        &["session"],
        "gap [, key] [, allowed latency]",
        "rows of a key between which there is no silence of gap; closes that, and the \
         allowed latency, after the last",
    ),
    WindowSpec::new(
        WindowKind::Cron,
        &["cron"],
        "'expression' [, 'timezone' = '…']",
        "from one point in time of a cron expression to the next",
    ),
    WindowSpec::new(
        WindowKind::ExpressionBatch,
        &["expressionBatch"],
        "condition",
        "rows for which the condition holds; the row that makes it false begins the \
         next batch",
    ),
    WindowSpec::new(
        WindowKind::State,
        &["state"],
        "begin, emit",
        "from a row for which begin holds to the one at which emit holds; rows between \
         are in no batch",
    ),
    WindowSpec::new(
        WindowKind::Batch,
        &["batch"],
        "",
        "the rows that one input caused and that arrive together",
    ),
];

/// Windows known elsewhere that there are not here, so that they are refused by name.
pub(crate) const ABSENT: &[&str] = &[
    "uniqueLengthBatch",
    "uniqueTimeBatch",
    "uniqueTimeLengthBatch",
    "uniqueExternalTimeBatch",
    "firstUniqueLengthBatch",
    "firstUniqueTimeBatch",
];

/// The window called `name`, in any case.
#[must_use]
pub fn window_named(name: &str) -> Option<&'static WindowSpec> {
    let same = |known: &&str| known.eq_ignore_ascii_case(name);
    WINDOWS.iter().find(|spec| spec.names.iter().any(same))
}
