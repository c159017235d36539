//! Queries: INSERT, UPSERT, UPDATE, DELETE, and the clauses of SELECT.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::super::ast::{
    Every, From, Into, IntoKind, KeyForm, Name, OrderBy, Output, Partition, PartitionKey, Query,
    Select,
};
use super::super::plan::{Emit, Keep};
use super::{Parsed, StatementParser};
use crate::diagnostic::{Diagnostic, Place};

impl StatementParser<'_> {
    /// A statement that moves rows.
    pub(super) fn query(&mut self) -> Parsed<Query> {
        let place = self.here();
        let with = self.common_tables()?;
        if self.word("UPDATE") {
            return self.update(place, with);
        }
        if self.word("DELETE") {
            return self.delete(place, with);
        }
        let mut into = None;
        if self.peek_word("INSERT") || self.peek_word("UPSERT") {
            into = Some(self.target_clause()?);
        }
        let with = if with.is_empty() && into.is_some() {
            self.common_tables()?
        } else {
            with
        };
        let select = if into.is_none() && self.word("FROM") {
            let from = self.from()?;
            self.rest_of_select(from)?
        } else {
            self.select_from()?
        };
        let mut into = match into {
            Some(into) => into,
            None if self.peek_word("INSERT") || self.peek_word("UPSERT") => self.target_clause()?,
            None => {
                let what = "INSERT INTO and the stream or table that gets the rows";
                return Err(self.expected(what));
            }
        };
        if let IntoKind::Upsert(on) = &mut into.kind {
            if self.word("ON") {
                *on = Some(self.sql(Parser::parse_expr)?.into());
            }
        }
        Ok(Query {
            into,
            with,
            select,
            properties: self.with_properties()?,
            place,
        })
    }

    /// `WITH name AS (SELECT …), …`.
    fn common_tables(&mut self) -> Parsed<Vec<(Name, Select)>> {
        let mut tables = Vec::new();
        if !self.word("WITH") {
            return Ok(tables);
        }
        if self.peek_word("RECURSIVE") {
            return Err(self.error_here("RECURSIVE is not supported by this version"));
        }
        loop {
            let name = self.name("a name for the subquery")?;
            if tables
                .iter()
                .any(|(known, _): &(Name, _)| known.text == name.text)
            {
                let message = format!("two queries of WITH are called '{}'", name.text);
                return Err(Diagnostic::error(self.path, name.place, message));
            }
            self.no_columns("give the columns their names in the SELECT, with AS")?;
            self.expect_word("AS")?;
            self.token(&Token::LParen)?;
            let select = self.nested("subqueries", |parser| parser.select_from())?;
            self.token(&Token::RParen)?;
            tables.push((name, select));
            if !self.parser.consume_token(&Token::Comma) {
                return Ok(tables);
            }
        }
    }

    /// `INSERT [… EVENTS] INTO target`, `UPSERT INTO target`.
    fn target_clause(&mut self) -> Parsed<Into> {
        let upsert = self.word("UPSERT");
        let mut emit = Emit::Current;
        if !upsert {
            self.expect_word("INSERT")?;
            emit = self.emit()?;
        }
        self.expect_word("INTO")?;
        let what = if upsert {
            "the table that gets the rows"
        } else {
            "the stream that gets the rows"
        };
        let kind = if upsert {
            IntoKind::Upsert(None)
        } else {
            IntoKind::Insert(emit)
        };
        let target = self.name(what)?;
        self.no_columns("columns go to the target by position: SELECT all of them")?;
        Ok(Into { target, kind })
    }

    /// Where standard SQL may have a list of columns.
    fn no_columns(&self, hint: &str) -> Parsed<()> {
        let select = matches!(&self.parser.peek_nth_token_ref(1).token, Token::Word(word)
            if word.value.eq_ignore_ascii_case("SELECT"));
        if self.peek() == Token::LParen && !select {
            let fault = self.error_here("a list of columns is not supported here");
            return Err(fault.with_hint(hint));
        }
        Ok(())
    }

    fn emit(&mut self) -> Parsed<Emit> {
        let kinds = [
            ("ALL", Emit::All),
            ("CURRENT", Emit::Current),
            ("EXPIRED", Emit::Expired),
        ];
        for (word, kind) in kinds {
            if self.word(word) {
                self.expect_word("EVENTS")?;
                return Ok(kind);
            }
        }
        Ok(Emit::Current)
    }

    /// Behind UPDATE.
    fn update(&mut self, place: Place, with: Vec<(Name, Select)>) -> Parsed<Query> {
        let target = self.name("the table's name")?;
        self.expect_word("SET")?;
        let mut set = vec![self.assignment(&target)?];
        while self.parser.consume_token(&Token::Comma) {
            set.push(self.assignment(&target)?);
        }
        self.expect_word("FROM")?;
        self.write_from(place, with, target, IntoKind::Update(set))
    }

    /// `column = expression`; the column may have the table's name before it.
    fn assignment(&mut self, table: &Name) -> Parsed<(Name, sqlparser::ast::Expr)> {
        let mut column = self.name("a column of the table")?;
        if column.text == table.text && self.parser.consume_token(&Token::Period) {
            column = self.name("a column of the table")?;
        }
        self.token(&Token::Eq)?;
        Ok((column, self.sql(Parser::parse_expr)?))
    }

    /// Behind DELETE.
    fn delete(&mut self, place: Place, with: Vec<(Name, Select)>) -> Parsed<Query> {
        self.expect_word("FROM")?;
        let target = self.name("the table's name")?;
        self.expect_word("USING")?;
        self.write_from(place, with, target, IntoKind::Delete)
    }

    fn write_from(
        &mut self,
        place: Place,
        with: Vec<(Name, Select)>,
        target: Name,
        kind: IntoKind,
    ) -> Parsed<Query> {
        let mut select = Select::new(self.from()?, place);
        if self.word("WHERE") {
            select.filter = Some(self.sql(Parser::parse_expr)?);
        }
        Ok(Query {
            into: Into { target, kind },
            with,
            select,
            properties: self.with_properties()?,
            place,
        })
    }

    /// `SELECT … FROM …` and the clauses behind.
    pub(super) fn select_from(&mut self) -> Parsed<Select> {
        let place = self.here();
        self.expect_word("SELECT")?;
        let distinct = self.distinct();
        let items = self.sql(|parser| parser.parse_comma_separated(Parser::parse_select_item))?;
        self.expect_word("FROM")?;
        let mut select = Select::new(self.from()?, place);
        select.distinct = distinct;
        select.items = items;
        self.clauses(&mut select)?;
        Ok(select)
    }

    /// Behind `FROM …`: the clauses may stand on both sides of SELECT.
    fn rest_of_select(&mut self, from: From) -> Parsed<Select> {
        let mut select = Select::new(from, self.here());
        if self.word("WHERE") {
            select.filter = Some(self.sql(Parser::parse_expr)?);
        }
        self.partition_by(&mut select)?;
        select.place = self.here();
        self.expect_word("SELECT")?;
        select.distinct = self.distinct();
        select.items =
            self.sql(|parser| parser.parse_comma_separated(Parser::parse_select_item))?;
        self.clauses(&mut select)?;
        Ok(select)
    }

    fn distinct(&mut self) -> bool {
        let distinct = self.word("DISTINCT");
        if !distinct {
            let _all_is_the_default = self.word("ALL");
        }
        distinct
    }

    fn clauses(&mut self, query: &mut Select) -> Parsed<()> {
        if query.filter.is_none() && self.word("WHERE") {
            query.filter = Some(self.sql(Parser::parse_expr)?);
        }
        if query.partition_by.is_empty() {
            self.partition_by(query)?;
        }
        if self.word("GROUP") {
            self.expect_word("BY")?;
            query.group_by = self.sql(|parser| parser.parse_comma_separated(Parser::parse_expr))?;
        }
        if self.word("HAVING") {
            query.having = Some(self.sql(Parser::parse_expr)?);
        }
        if self.word("ORDER") {
            self.expect_word("BY")?;
            query.order_by.push(self.order_by()?);
            while self.parser.consume_token(&Token::Comma) {
                query.order_by.push(self.order_by()?);
            }
        }
        if self.word("LIMIT") {
            query.limit = Some(self.sql(Parser::parse_literal_uint)?);
        }
        if self.word("OFFSET") {
            query.offset = Some(self.sql(Parser::parse_literal_uint)?);
        }
        if self.peek_word("OUTPUT") {
            query.output = Some(self.output()?);
        }
        Ok(())
    }

    /// `PARTITION BY …`, if it comes next.
    fn partition_by(&mut self, query: &mut Select) -> Parsed<()> {
        if self.word("PARTITION") {
            self.expect_word("BY")?;
            query.partition_by =
                self.sql(|parser| parser.parse_comma_separated(Parser::parse_expr))?;
        }
        Ok(())
    }

    /// `OUTPUT [ALL | FIRST | LAST] EVERY …`, `OUTPUT SNAPSHOT EVERY …`.
    fn output(&mut self) -> Parsed<Output> {
        let place = self.here();
        self.expect_word("OUTPUT")?;
        let kinds = [
            ("ALL", Keep::All),
            ("FIRST", Keep::First),
            ("LAST", Keep::Last),
            ("SNAPSHOT", Keep::Snapshot),
        ];
        let mut keep = Keep::All;
        for (word, kind) in kinds {
            if self.word(word) {
                keep = kind;
                break;
            }
        }
        self.expect_word("EVERY")?;
        let every = self.every(keep)?;
        Ok(Output { keep, every, place })
    }

    fn every(&mut self, keep: Keep) -> Parsed<Every> {
        if !self.counts_events() {
            return Ok(Every::SpanMs(self.span_ms()?));
        }
        let place = self.here();
        let count = self.sql(Parser::parse_literal_uint)?;
        self.parser.advance_token();
        let message = match (keep, count) {
            (Keep::Snapshot, _) => "SNAPSHOT comes every span of time, such as 5 SECONDS",
            (_, 0) => "EVERY needs at least 1 event",
            _ => return Ok(Every::Events(count)),
        };
        Err(Diagnostic::error(self.path, place, message))
    }

    /// Whether `n EVENTS` comes next.
    pub(super) fn counts_events(&self) -> bool {
        matches!(self.peek(), Token::Number(..))
            && matches!(&self.parser.peek_nth_token_ref(1).token, Token::Word(word)
                if word.value.eq_ignore_ascii_case("EVENTS")
                    || word.value.eq_ignore_ascii_case("EVENT"))
    }

    /// The head of a partition, up to BEGIN.
    pub(super) fn partition_head(&mut self) -> Parsed<Partition> {
        let place = self.here();
        self.expect_word("PARTITION")?;
        self.expect_word("WITH")?;
        self.token(&Token::LParen)?;
        let mut partition = Partition {
            keys: Vec::new(),
            properties: Vec::new(),
            queries: Vec::new(),
            place,
        };
        loop {
            let named =
                matches!(self.peek(), Token::SingleQuotedString(_)) && self.nth_is(1, &Token::Eq);
            if named {
                partition.properties.push(self.property()?);
            } else {
                partition.keys.push(self.partition_key()?);
            }
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.token(&Token::RParen)?;
        partition.properties.extend(self.with_properties()?);
        self.expect_word("BEGIN")?;
        Ok(partition)
    }

    fn partition_key(&mut self) -> Parsed<PartitionKey> {
        let first = self.sql(Parser::parse_expr)?;
        let key = if self.word("AS") {
            let mut ranges = vec![(first, self.label()?)];
            while self.word("OR") {
                let condition = self.sql(Parser::parse_expr)?;
                self.expect_word("AS")?;
                ranges.push((condition, self.label()?));
            }
            KeyForm::Ranges(ranges)
        } else {
            KeyForm::Value(first.into())
        };
        self.expect_word("OF")?;
        Ok(PartitionKey {
            stream: self.name("the stream's name")?,
            key,
        })
    }

    fn label(&mut self) -> Parsed<Name> {
        let place = self.here();
        let Token::SingleQuotedString(text) = self.peek() else {
            return Err(self.expected("the range's name in single quotes"));
        };
        self.parser.advance_token();
        Ok(Name { text, place })
    }

    fn order_by(&mut self) -> Parsed<OrderBy> {
        let expr = self.sql(Parser::parse_expr)?;
        let descending = self.word("DESC");
        if !descending {
            let _ascending_is_the_default = self.word("ASC");
        }
        let mut nulls_first = None;
        if self.word("NULLS") {
            nulls_first = Some(self.word("FIRST"));
            if nulls_first == Some(false) {
                self.expect_word("LAST")?;
            }
        }
        Ok(OrderBy {
            expr,
            descending,
            nulls_first,
        })
    }
}
