//! The options that formats have in common, under each format's own name.

/// The options of a format: those named in the first list, which are declared here, and its own.
///
/// A function cannot make the names: they are constants.
macro_rules! format_options {
    ($format:literal: $($shared:ident)*; $($own:expr),* $(,)?) => {
        &[
            $($crate::decode::options::format_options!(@ $shared $format),)*
            $($own),*
        ]
    };
    (@ timestamp $format:literal) => {
        $crate::config::options::OptionSpec::new(
            concat!($format, ".timestamp.format"),
            $crate::config::options::OptionKind::Text,
            "How times for TIMESTAMP columns are written: `ms`, `s`, `us`, `ns` since 1970, \
             `iso8601`, or a pattern of `strftime`; UTC unless it has an offset",
        )
        .or("ms")
    };
    (@ timestamp_of $format:literal) => {
        $crate::config::options::OptionSpec::new(
            concat!($format, ".timestamp.format.*"),
            $crate::config::options::OptionKind::Text,
            "The same for one TIMESTAMP column",
        )
    };
    (@ ignore $format:literal) => {
        $crate::config::options::OptionSpec::new(
            concat!($format, ".ignore_parse_errors"),
            $crate::config::options::OptionKind::Flag,
            "A value that its column cannot hold becomes NULL and is counted; else it rejects the \
             message",
        )
        .or("false")
    };
    (@ bytes $format:literal) => {
        $crate::config::options::OptionSpec::new(
            concat!($format, ".bytes"),
            $crate::config::options::OptionKind::Choice(&["base64", "hex"]),
            "How text for BYTES columns is written",
        )
        .or("base64")
    };
    (@ missing $format:literal) => {
        $crate::config::options::OptionSpec::new(
            concat!($format, ".missing"),
            $crate::config::options::OptionKind::Choice(&["null", "reject"]),
            "What an absent field makes: NULL, or a rejected message",
        )
        .or("null")
    };
    (@ unknown $format:literal) => {
        $crate::config::options::OptionSpec::new(
            concat!($format, ".unknown"),
            $crate::config::options::OptionKind::Choice(&["ignore", "reject"]),
            "What becomes of a field that no column takes",
        )
        .or("ignore")
    };
    (@ path $format:literal) => {
        $crate::config::options::OptionSpec::new(
            concat!($format, ".mapping.*"),
            $crate::config::options::OptionKind::Text,
            "Where a column's value lies, such as $.values.temp or $.readings[0]; the field of \
             the column's name when left out. With a root, @.temp is counted from the row's object",
        )
    };
    (@ root $format:literal) => {
        $crate::config::options::OptionSpec::new(
            concat!($format, ".root"),
            $crate::config::options::OptionKind::Text,
            "Where the rows lie, such as $.data.readings: an array of objects, or one object",
        )
    };
}

pub(super) use format_options;
