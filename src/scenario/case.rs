//! A case file as text: SQL, what goes in, what must come out.
//!
//! ```text
//! # what this shows
//! CREATE STREAM S (a INT);
//! INSERT INTO Out SELECT a + 1 AS b FROM S;
//! ---- input
//! 1000 S {"a": 1}
//! 5000 tick
//! ---- expect
//! Out {"b": 2}
//! ====
//! ```
//!
//! A stream that is read in a format takes payloads too, as its source would: `1000 S raw "1,2\n"`
//! (a JSON string) or `1000 S hex 0a 0b`.
//!
//! `---- expect unordered` compares as a multiset, `1000 Out {…}` also checks the row's time,
//! `Out (none)` says that nothing comes. `---- error` in place of `---- input` gives diagnostics,
//! one a line: `2:24 a part of the message`. Cases of one file are separated by `====`.

use serde_json::{Map, Value as Json};

use crate::event::from_hex;

/// One case.
#[derive(Debug)]
pub struct Case {
    /// The first comment line, or the place in the file.
    pub name: String,
    /// The line on which the case begins, from 1.
    pub line: usize,
    /// The statements, with as many blank lines before them as the case has before it.
    pub sql: String,
    /// What it checks.
    pub check: Check,
}

/// What a case checks.
#[derive(Debug)]
pub enum Check {
    /// Rows for rows.
    Rows {
        /// What goes in.
        input: Vec<Input>,
        /// What must come out.
        expect: Vec<Expected>,
        /// Whether the order does not matter.
        unordered: bool,
    },
    /// Diagnostics: each line must be part of one of them. None: any error will do.
    Errors(Vec<String>),
}

/// One line of input.
#[derive(Clone, Debug)]
pub struct Input {
    /// When, in milliseconds.
    pub time: i64,
    /// What comes for a stream; none for a tick.
    pub arrival: Option<(String, Arrival)>,
}

/// What comes for a stream.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A row.
    Row(Map<String, Json>),
    /// A payload in the stream's format.
    Payload(Vec<u8>),
}

/// One line of expected output.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The row's time, where it is checked.
    pub time: Option<i64>,
    /// The stream.
    pub stream: String,
    /// The row; `None` says that nothing comes.
    pub row: Option<Map<String, Json>>,
}

/// A case that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct CaseError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

#[derive(PartialEq)]
enum Section {
    Sql,
    Input,
    Expect,
    Errors,
}

/// Reads every case of a file.
///
/// # Errors
/// The first line that is not as it should be.
pub fn parse(text: &str) -> Result<Vec<Case>, CaseError> {
    let mut cases = Vec::new();
    let mut lines: Vec<(usize, &str)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim() == "====" {
            cases.extend(parse_one(&lines)?);
            lines.clear();
        } else {
            lines.push((number, line));
        }
    }
    cases.extend(parse_one(&lines)?);
    Ok(cases)
}

fn parse_one(lines: &[(usize, &str)]) -> Result<Option<Case>, CaseError> {
    let Some((first, _)) = lines.iter().find(|(_, line)| !line.trim().is_empty()) else {
        return Ok(None);
    };
    let mut case = Case {
        name: format!("line {first}"),
        line: *first,
        sql: String::new(),
        check: Check::Errors(Vec::new()),
    };
    let (mut input, mut expect, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    let (mut unordered, mut named, mut saw_errors) = (false, false, false);
    let mut section = Section::Sql;
    for (number, line) in lines.iter().copied() {
        let trimmed = line.trim();
        if let Some(title) = trimmed.strip_prefix("----") {
            section = section_of(title.trim(), number)?;
            unordered |= title.trim() == "expect unordered";
            saw_errors |= section == Section::Errors;
            continue;
        }
        if let Some(comment) = trimmed.strip_prefix('#') {
            if !named && !comment.trim().is_empty() {
                comment.trim().clone_into(&mut case.name);
                named = true;
            }
            // The line stays, empty, so that places in messages are those of the case.
            if section == Section::Sql && !case.sql.is_empty() {
                case.sql.push('\n');
            }
            continue;
        }
        match section {
            Section::Sql if case.sql.is_empty() && trimmed.is_empty() => {}
            Section::Sql => {
                case.sql.push_str(line);
                case.sql.push('\n');
            }
            _ if trimmed.is_empty() => {}
            Section::Input => input.push(input_line(number, trimmed)?),
            Section::Expect => expect.push(expect_line(number, trimmed)?),
            Section::Errors => errors.push(trimmed.to_owned()),
        }
    }
    if saw_errors && !(input.is_empty() && expect.is_empty()) {
        return fail(
            case.line,
            "a case has input and output, or errors, not both",
        );
    }
    case.check = if saw_errors {
        Check::Errors(errors)
    } else {
        if expect.is_empty() {
            return fail(case.line, "the case expects nothing; write 'Stream (none)'");
        }
        Check::Rows {
            input,
            expect,
            unordered,
        }
    };
    Ok(Some(case))
}

fn section_of(title: &str, line: usize) -> Result<Section, CaseError> {
    match title {
        "input" => Ok(Section::Input),
        "expect" | "expect unordered" => Ok(Section::Expect),
        "error" | "errors" => Ok(Section::Errors),
        other => fail(line, format!("unknown section '{other}'")),
    }
}

fn fail<T>(line: usize, message: impl Into<String>) -> Result<T, CaseError> {
    Err(CaseError {
        line,
        message: message.into(),
    })
}

fn input_line(number: usize, line: &str) -> Result<Input, CaseError> {
    let (time, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let Ok(time) = time.parse() else {
        return fail(number, format!("'{time}' is not a time in milliseconds"));
    };
    let rest = rest.trim();
    if rest == "tick" {
        return Ok(Input {
            time,
            arrival: None,
        });
    }
    let (stream, written) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Ok(Input {
        time,
        arrival: Some((stream.to_owned(), arrival(number, written.trim())?)),
    })
}

fn arrival(number: usize, written: &str) -> Result<Arrival, CaseError> {
    let payload = match written.split_once(char::is_whitespace) {
        Some(("raw", text)) => serde_json::from_str::<String>(text)
            .ok()
            .map(String::into_bytes),
        Some(("hex", digits)) => from_hex(&digits.replace(char::is_whitespace, "")),
        Some(_) | None => return Ok(Arrival::Row(object(number, written)?)),
    };
    match payload {
        Some(payload) => Ok(Arrival::Payload(payload)),
        None => fail(
            number,
            "a payload is raw \"…\" or hex with two digits a byte",
        ),
    }
}

fn expect_line(number: usize, line: &str) -> Result<Expected, CaseError> {
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (time, line) = match first.parse() {
        Ok(time) => (Some(time), rest.trim()),
        Err(_) => (None, line),
    };
    let (stream, json) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let row = if json.trim() == "(none)" {
        None
    } else {
        Some(object(number, json)?)
    };
    Ok(Expected {
        time,
        stream: stream.to_owned(),
        row,
    })
}

fn object(number: usize, json: &str) -> Result<Map<String, Json>, CaseError> {
    match serde_json::from_str(json) {
        Ok(Json::Object(map)) => Ok(map),
        Ok(_) => fail(number, "a row is a JSON object"),
        Err(error) => fail(number, format!("not JSON: {error}")),
    }
}
