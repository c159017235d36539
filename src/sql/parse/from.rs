//! FROM: sources, joins, windows; patterns have a module of their own.

use sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Word};

use super::super::ast::{From, Join, Name, Source, What, WindowArgument, WindowCall, WindowValue};
use super::super::plan::JoinKind;
use super::{Parsed, StatementParser, is_called};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::event::{DURATION_UNITS, unit_ms};

/// Words that begin what follows a source, besides those that `sqlparser` reserves.
const CLAUSES: [&str; 26] = [
    "WINDOW",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "INSERT",
    "UPSERT",
    "SELECT",
    "OUTPUT",
    "AGGREGATE",
    "USING",
    "WITH",
    "PER",
    "PARTITION",
    "JOIN",
    "LEFT",
    "RIGHT",
    "FULL",
    "INNER",
    "CROSS",
    "UNION",
    "UNIDIRECTIONAL",
    "WITHIN",
    "ON",
];

impl StatementParser<'_> {
    /// Behind FROM.
    pub(super) fn from(&mut self) -> Parsed<From> {
        if self.peek_pattern() {
            return Ok(From::Pattern(Box::new(self.pattern()?)));
        }
        let mut from = From::One(self.source()?);
        loop {
            let place = self.here();
            let Some((kind, needs_on)) = self.join_words()? else {
                break;
            };
            let right = self.source()?;
            if self.peek_word("USING") {
                return Err(self.error_here("JOIN … USING is not supported; write JOIN … ON"));
            }
            let on = if self.word("ON") {
                Some(self.sql(Parser::parse_expr)?)
            } else {
                None
            };
            let mut join = Join {
                left: from,
                kind,
                right,
                on,
                within: None,
                per: None,
                place,
            };
            self.within_per(&mut join)?;
            if join.on.is_none() && needs_on && join.per.is_none() {
                return Err(self.expected("ON and the condition of the join"));
            }
            from = From::Join(Box::new(join));
        }
        if self.peek() == Token::Comma {
            return Err(self.error_here("several streams in FROM are not supported; use JOIN"));
        }
        Ok(from)
    }

    /// `[INNER | LEFT | RIGHT | FULL [OUTER] | CROSS] JOIN`: the kind, and whether ON must follow.
    fn join_words(&mut self) -> Parsed<Option<(JoinKind, bool)>> {
        let kinds = [
            ("LEFT", JoinKind::Left),
            ("RIGHT", JoinKind::Right),
            ("FULL", JoinKind::Full),
        ];
        for (word, kind) in kinds {
            if self.word(word) {
                let _outer_is_understood = self.word("OUTER");
                self.expect_word("JOIN")?;
                return Ok(Some((kind, true)));
            }
        }
        if self.word("CROSS") {
            self.expect_word("JOIN")?;
            return Ok(Some((JoinKind::Inner, false)));
        }
        if self.word("INNER") {
            self.expect_word("JOIN")?;
            return Ok(Some((JoinKind::Inner, true)));
        }
        if self.peek_word("NATURAL") {
            return Err(self.error_here("NATURAL JOIN is not supported; write JOIN … ON"));
        }
        Ok(self.word("JOIN").then_some((JoinKind::Inner, true)))
    }

    /// `WITHIN start, end PER 'duration'`.
    fn within_per(&mut self, join: &mut Join) -> Parsed<()> {
        if !self.word("WITHIN") {
            return Ok(());
        }
        let start = self.sql(Parser::parse_expr)?;
        self.token(&Token::Comma)?;
        let end = self.sql(Parser::parse_expr)?;
        join.within = Some((start, end));
        self.expect_word("PER")?;
        let place = self.here();
        let text = match self.peek() {
            Token::SingleQuotedString(text) => text,
            Token::Word(word) => word.value,
            _ => return Err(self.expected("a duration such as 'minutes'")),
        };
        self.parser.advance_token();
        join.per = Some(Name { text, place });
        Ok(())
    }

    fn source(&mut self) -> Parsed<Source> {
        if self.peek_pattern() {
            return Err(self.no_join_of_patterns());
        }
        let what = if self.parser.consume_token(&Token::LParen) {
            let select = self.nested("subqueries", |parser| parser.select_from())?;
            self.token(&Token::RParen)?;
            What::Subquery(Box::new(select))
        } else {
            let name = self.name("a stream's name")?;
            match self.peek_match_recognize() {
                true => What::Subquery(Box::new(self.match_recognize(&name)?)),
                false => What::Named(name),
            }
        };
        let mut source = Source {
            what,
            alias: self.alias()?,
            window: None,
            unidirectional: false,
        };
        if self.peek_match_recognize() {
            let fault = self.error_here("MATCH_RECOGNIZE stands right behind a stream's name");
            return Err(fault.with_hint("write FROM S MATCH_RECOGNIZE (…) AS m"));
        }
        if self.word("WINDOW") {
            source.window = Some(self.window()?);
            let behind = self.alias()?;
            if let (Some(_), Some(second)) = (&source.alias, &behind) {
                let message = "the stream has an alias already";
                return Err(Diagnostic::error(self.path, second.place, message));
            }
            source.alias = source.alias.or(behind);
        }
        source.unidirectional = self.word("UNIDIRECTIONAL");
        Ok(source)
    }

    fn alias(&mut self) -> Parsed<Option<Name>> {
        if self.word("AS") {
            return self.name("an alias").map(Some);
        }
        let Token::Word(word) = self.peek() else {
            return Ok(None);
        };
        if is_clause(&word) {
            return Ok(None);
        }
        let alias = self.name("an alias")?;
        self.bare_alias = Some(alias.clone());
        Ok(Some(alias))
    }

    /// Behind the word WINDOW: `('kind', arguments)`, or `TUMBLING(5 SECONDS)` and the like.
    pub(super) fn window(&mut self) -> Parsed<WindowCall> {
        if let Token::Word(word) = self.peek() {
            let kind = Name {
                text: word.value.to_lowercase(),
                place: self.here(),
            };
            self.parser.advance_token();
            self.token(&Token::LParen)?;
            let mut arguments = vec![self.window_argument()?];
            while self.parser.consume_token(&Token::Comma) {
                arguments.push(self.window_argument()?);
            }
            self.token(&Token::RParen)?;
            return Ok(WindowCall { kind, arguments });
        }
        self.token(&Token::LParen)?;
        let place = self.here();
        let Token::SingleQuotedString(text) = self.peek() else {
            return Err(self.expected("the window's kind in single quotes"));
        };
        self.parser.advance_token();
        let mut arguments = Vec::new();
        while self.parser.consume_token(&Token::Comma) {
            arguments.push(self.window_argument()?);
        }
        self.token(&Token::RParen)?;
        Ok(WindowCall {
            kind: Name { text, place },
            arguments,
        })
    }

    fn window_argument(&mut self) -> Parsed<WindowArgument> {
        let place = self.here();
        let value = match self.span_with_units()? {
            Some(span_ms) => WindowValue::Span(span_ms),
            None => match self.whole_number() {
                Some(number) => WindowValue::Number(number),
                None => WindowValue::Expr(Box::new(self.sql(Parser::parse_expr)?)),
            },
        };
        Ok(WindowArgument { value, place })
    }

    /// A whole number that is an argument by itself.
    fn whole_number(&mut self) -> Option<i64> {
        let Token::Number(digits, false) = self.peek() else {
            return None;
        };
        let alone = self.nth_is(1, &Token::Comma) || self.nth_is(1, &Token::RParen);
        let number = digits.parse().ok().filter(|_| alone)?;
        self.parser.advance_token();
        Some(number)
    }

    /// A span of time longer than 0: `1 MINUTE 30 SECONDS`, or a bare number of milliseconds.
    pub(super) fn span_ms(&mut self) -> Parsed<i64> {
        let place = self.here();
        let span_ms = match self.span_with_units()? {
            Some(span_ms) => span_ms,
            None => {
                let Token::Number(digits, false) = self.peek() else {
                    return Err(self.expected("a span of time such as 5 SECONDS"));
                };
                let Ok(span_ms) = digits.parse::<i64>() else {
                    return Err(self.expected("a span of time such as 5 SECONDS"));
                };
                self.parser.advance_token();
                span_ms
            }
        };
        if span_ms > 0 {
            return Ok(span_ms);
        }
        let message = "a span of time must be longer than 0";
        Err(Diagnostic::error(self.path, place, message))
    }

    /// A span with its units, if one comes next.
    fn span_with_units(&mut self) -> Parsed<Option<i64>> {
        let place = self.here();
        let mut total_ms: i64 = 0;
        let mut parts = 0;
        while let Token::Number(digits, false) = self.peek() {
            let Ok(number) = digits.parse::<i64>() else {
                break;
            };
            let Token::Word(unit) = self.parser.peek_nth_token(1).token else {
                break;
            };
            let Some(length_ms) = unit_ms(&unit.value) else {
                let joint = ["AND", "OR", "AFTER", "DEFINE"];
                if is_clause(&unit) || joint.iter().any(|word| is_called(&unit, word)) {
                    break;
                }
                self.parser.advance_token();
                let message = format!("unknown unit of time '{}'", unit.value);
                let units: Vec<String> = DURATION_UNITS
                    .iter()
                    .map(|(name, _)| name.to_uppercase())
                    .collect();
                let hint = did_you_mean(&unit.value, units.iter().map(String::as_str));
                return Err(self.error_here(message).with_hint_if(hint));
            };
            self.parser.advance_token();
            self.parser.advance_token();
            let part = number.checked_mul(length_ms);
            let Some(sum) = part.and_then(|part| total_ms.checked_add(part)) else {
                return Err(Diagnostic::error(
                    self.path,
                    place,
                    "this span of time is too long",
                ));
            };
            total_ms = sum;
            parts += 1;
        }
        Ok((parts > 0).then_some(total_ms))
    }
}

/// Whether a word begins what follows a source.
fn is_clause(word: &Word) -> bool {
    let reserved = RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
        || matches!(
            word.keyword,
            Keyword::ASC | Keyword::DESC | Keyword::NATURAL
        )
        || CLAUSES
            .iter()
            .any(|clause| word.value.eq_ignore_ascii_case(clause));
    word.quote_style.is_none() && reserved
}
