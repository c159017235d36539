//! CREATE …

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::super::ast::{
    CreateAggregation, CreateStream, CreateTable, CreateTrigger, CreateWindow, Name, Properties,
    Statement,
};
use super::super::cron::Cron;
use super::super::plan::{Bucket, TriggerAt};
use super::super::types;
use super::{Parsed, StatementParser};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::event::Type;

/// The words for the durations of an aggregation.
pub(crate) const BUCKETS: &[(Bucket, &[&str])] = &[
    (Bucket::Second, &["SECONDS", "SECOND", "SEC"]),
    (Bucket::Minute, &["MINUTES", "MINUTE", "MIN"]),
    (Bucket::Hour, &["HOURS", "HOUR"]),
    (Bucket::Day, &["DAYS", "DAY"]),
    (Bucket::Week, &["WEEKS", "WEEK"]),
    (Bucket::Month, &["MONTHS", "MONTH"]),
    (Bucket::Year, &["YEARS", "YEAR"]),
];

/// The duration called `name`.
pub(crate) fn bucket_named(name: &str) -> Option<Bucket> {
    let called = |names: &&[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let found = BUCKETS.iter().find(|(_, names)| called(names));
    found.map(|(bucket, _)| *bucket)
}

impl StatementParser<'_> {
    /// Behind CREATE.
    pub(super) fn create(&mut self) -> Parsed<Statement> {
        if self.word("STREAM") {
            return Ok(Statement::CreateStream(self.create_stream()?));
        }
        if self.word("TABLE") {
            return Ok(Statement::CreateTable(self.create_table()?));
        }
        if self.word("WINDOW") {
            let name = self.name("the window's name")?;
            let columns = self.columns()?;
            self.expect_word("WINDOW")?;
            let window = self.window()?;
            return Ok(Statement::CreateWindow(CreateWindow {
                name,
                columns,
                window,
            }));
        }
        if self.word("TRIGGER") {
            return Ok(Statement::CreateTrigger(self.create_trigger()?));
        }
        if self.word("AGGREGATION") {
            return Ok(Statement::CreateAggregation(Box::new(
                self.create_aggregation()?,
            )));
        }
        let kinds = ["STREAM", "TABLE", "WINDOW", "TRIGGER", "AGGREGATION"];
        let found = self.peek().to_string();
        let expected = self.expected("STREAM, TABLE, WINDOW, TRIGGER or AGGREGATION");
        Err(expected.with_hint_if(did_you_mean(&found, kinds)))
    }

    fn create_stream(&mut self) -> Parsed<CreateStream> {
        Ok(CreateStream {
            name: self.name("the stream's name")?,
            columns: self.columns()?,
            properties: self.with_properties()?,
        })
    }

    fn create_table(&mut self) -> Parsed<CreateTable> {
        let name = self.name("the table's name")?;
        self.token(&Token::LParen)?;
        let mut columns = Vec::new();
        let mut primary_key: Vec<Name> = Vec::new();
        loop {
            let place = self.here();
            let own = self.peek_word("PRIMARY");
            let mut key = Vec::new();
            if own {
                self.primary_key_words()?;
                key = self.names("a column of the key")?;
            } else {
                let (column, ty) = self.column()?;
                if self.peek_word("PRIMARY") {
                    self.primary_key_words()?;
                    key.push(column.clone());
                }
                columns.push((column, ty));
            }
            if !key.is_empty() && !primary_key.is_empty() {
                let message = "a table has one PRIMARY KEY";
                let hint = "for several columns write PRIMARY KEY (a, b)";
                return Err(Diagnostic::error(self.path, place, message).with_hint(hint));
            }
            primary_key.extend(key);
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.token(&Token::RParen)?;
        if columns.is_empty() {
            return Err(Diagnostic::error(
                self.path,
                name.place,
                "a table needs a column",
            ));
        }
        Ok(CreateTable {
            name,
            columns,
            primary_key,
            properties: self.with_properties()?,
        })
    }

    fn primary_key_words(&mut self) -> Parsed<()> {
        self.expect_word("PRIMARY")?;
        self.expect_word("KEY")
    }

    /// `(a, b)`.
    fn names(&mut self, what: &str) -> Parsed<Vec<Name>> {
        self.token(&Token::LParen)?;
        let mut names = vec![self.name(what)?];
        while self.parser.consume_token(&Token::Comma) {
            names.push(self.name(what)?);
        }
        self.token(&Token::RParen)?;
        Ok(names)
    }

    fn create_trigger(&mut self) -> Parsed<CreateTrigger> {
        let name = self.name("the trigger's name")?;
        self.expect_word("AT")?;
        let at = if self.word("START") {
            TriggerAt::Start
        } else if self.word("EVERY") {
            TriggerAt::Every(self.span_ms()?)
        } else if self.word("CRON") {
            let Token::SingleQuotedString(text) = self.peek() else {
                return Err(self.expected("a cron expression in single quotes"));
            };
            let place = self.here();
            self.parser.advance_token();
            let cron = Cron::parse(&text);
            TriggerAt::Cron(cron.map_err(|fault| Diagnostic::error(self.path, place, fault))?)
        } else {
            return Err(self.expected("START, EVERY or CRON"));
        };
        Ok(CreateTrigger { name, at })
    }

    fn create_aggregation(&mut self) -> Parsed<CreateAggregation> {
        let name = self.name("the aggregation's name")?;
        let properties = self.with_properties()?;
        self.expect_word("AS")?;
        let select = self.select_from()?;
        self.expect_word("AGGREGATE")?;
        let by = if self.word("BY") {
            Some(self.sql(Parser::parse_expr)?)
        } else {
            None
        };
        self.expect_word("EVERY")?;
        let mut every = vec![self.bucket()?];
        loop {
            if self.parser.consume_token(&Token::Comma) {
                every.push(self.bucket()?);
            } else if self.parser.consume_token(&Token::Period) {
                self.rest_of_range(&mut every)?;
            } else {
                break;
            }
        }
        Ok(CreateAggregation {
            name,
            properties,
            select,
            by,
            every,
        })
    }

    /// `SECONDS ... YEARS` names all durations in between (weeks only where they are named).
    fn rest_of_range(&mut self, every: &mut Vec<(Bucket, Place)>) -> Parsed<()> {
        self.token(&Token::Period)?;
        self.token(&Token::Period)?;
        let (last, place) = self.bucket()?;
        let first = every.last().map_or(last, |(bucket, _)| *bucket);
        let between = BUCKETS.iter().map(|(bucket, _)| *bucket);
        let between = between.filter(|bucket| *bucket > first && *bucket <= last);
        every.extend(
            between
                .filter(|bucket| *bucket != Bucket::Week || *bucket == last)
                .map(|bucket| (bucket, place)),
        );
        Ok(())
    }

    fn bucket(&mut self) -> Parsed<(Bucket, Place)> {
        let place = self.here();
        let name = self.name("SECONDS, MINUTES, HOURS, DAYS, WEEKS, MONTHS or YEARS")?;
        match bucket_named(&name.text) {
            Some(bucket) => Ok((bucket, place)),
            None => {
                let known = BUCKETS
                    .iter()
                    .filter_map(|(_, names)| names.first().copied());
                let message = format!("unknown duration '{}'", name.text);
                Err(Diagnostic::error(self.path, place, message)
                    .with_hint_if(did_you_mean(&name.text, known)))
            }
        }
    }

    fn columns(&mut self) -> Parsed<Vec<(Name, Type)>> {
        self.token(&Token::LParen)?;
        let mut columns = vec![self.column()?];
        while self.parser.consume_token(&Token::Comma) {
            columns.push(self.column()?);
        }
        self.token(&Token::RParen)?;
        Ok(columns)
    }

    /// `WITH (…)`, if it comes next.
    pub(super) fn with_properties(&mut self) -> Parsed<Properties> {
        let mut properties = Vec::new();
        if self.word("WITH") {
            self.token(&Token::LParen)?;
            properties.push(self.property()?);
            while self.parser.consume_token(&Token::Comma) {
                properties.push(self.property()?);
            }
            self.token(&Token::RParen)?;
        }
        Ok(properties)
    }

    fn column(&mut self) -> Parsed<(Name, Type)> {
        let name = self.name("a column's name")?;
        let place = self.here();
        let Token::Word(word) = self.peek() else {
            return Err(self.expected("a type"));
        };
        self.parser.advance_token();
        let Some(ty) = types::type_named(&word.value) else {
            let message = format!("unknown type '{}'", word.value);
            return Err(Diagnostic::error(self.path, place, message).with_hint_if(
                did_you_mean(&word.value, types::TYPE_NAMES.iter().map(|(n, _)| *n))
                    .or_else(|| Some(format!("types are {}", types::type_list()))),
            ));
        };
        Ok((name, ty))
    }

    /// `'key' = 'value'`; the key may also be `"key"` or a plain dotted name.
    pub(super) fn property(&mut self) -> Parsed<(Name, Name)> {
        let place = self.here();
        let mut key = match self.peek() {
            Token::SingleQuotedString(text) => text,
            Token::Word(word) => word.value,
            _ => return Err(self.expected("a property's name")),
        };
        self.parser.advance_token();
        while self.parser.consume_token(&Token::Period) {
            let part = self.name("the rest of the property's name")?;
            key.push('.');
            key.push_str(&part.text);
        }
        self.token(&Token::Eq)?;
        let value_place = self.here();
        let Token::SingleQuotedString(value) = self.peek() else {
            return Err(self.expected("the property's value as a string in single quotes"));
        };
        self.parser.advance_token();
        Ok((
            Name { text: key, place },
            Name {
                text: value,
                place: value_place,
            },
        ))
    }
}
