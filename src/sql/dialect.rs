//! The lexical rules of EventFlux SQL, told to `sqlparser`.

use sqlparser::ast::{
    Expr, Function, FunctionArgumentList, FunctionArguments, ObjectName, WindowSpec, WindowType,
};
use sqlparser::dialect::{Dialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::analytics::analytic_named;

/// Identifiers, quoting, and which words cannot be an alias.
#[derive(Debug)]
pub(crate) struct EventFluxDialect;

/// Words that begin a clause of ours and so end a select list; `sqlparser` does not reserve them.
const CLAUSE_WORDS: &[Keyword] = &[
    Keyword::INSERT,
    Keyword::UPDATE,
    Keyword::DELETE,
    Keyword::OUTPUT,
    Keyword::PARTITION,
    Keyword::SELECT,
];

/// `(x, …) [OVER ([PARTITION BY k, …] [WHEN condition])]`. The condition becomes the call's filter.
fn parse_analytic(parser: &mut Parser, name: ObjectName) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let mut args = Vec::new();
    if !parser.consume_token(&Token::RParen) {
        args = parser.parse_comma_separated(Parser::parse_function_args)?;
        parser.expect_token(&Token::RParen)?;
    }
    let mut over = None;
    let mut filter = None;
    if parser.parse_keyword(Keyword::OVER) {
        parser.expect_token(&Token::LParen)?;
        let mut partition_by = Vec::new();
        if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
            partition_by = parser.parse_comma_separated(Parser::parse_expr)?;
        }
        if parser.parse_keyword(Keyword::WHEN) {
            filter = Some(Box::new(parser.parse_expr()?));
        }
        parser.expect_token(&Token::RParen)?;
        over = Some(WindowType::WindowSpec(WindowSpec {
            window_name: None,
            partition_by,
            order_by: Vec::new(),
            window_frame: None,
        }));
    }
    Ok(Expr::Function(Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        within_group: Vec::new(),
        filter,
        null_treatment: None,
        over,
    }))
}

impl Dialect for EventFluxDialect {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || ch == '#'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('"')
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_in_empty_list(&self) -> bool {
        false
    }

    /// `j -> 'a'` binds as tightly as `x::type`, so that `j -> 'a' = 1` compares what is at 'a'.
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match parser.peek_token_ref().token {
            Token::Arrow | Token::LongArrow => Some(Ok(self.prec_value(Precedence::DoubleColon))),
            _ => None,
        }
    }

    /// CONVERT is a function like any other: its second argument is a string. Analytic functions
    /// have an OVER of their own.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let token = parser.peek_token_ref();
        let Token::Word(word) = &token.token else {
            return None;
        };
        if parser.peek_nth_token_ref(1).token != Token::LParen {
            return None;
        }
        let analytic = word.quote_style.is_none() && analytic_named(&word.value).is_some();
        if !analytic && word.keyword != Keyword::CONVERT {
            return None;
        }
        let name = word.clone().into_ident(token.span);
        parser.advance_token();
        let name = ObjectName::from(vec![name]);
        Some(if analytic {
            parse_analytic(parser, name)
        } else {
            parser.parse_function(name)
        })
    }

    /// `x IN table`: `sqlparser` knows lists and subqueries in parentheses only.
    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        _precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        let word = |index: usize| match &parser.peek_nth_token_ref(index).token {
            Token::Word(word) => Some(word),
            _ => None,
        };
        let keyword = |index, keyword| word(index).is_some_and(|word| word.keyword == keyword);
        let negated = keyword(0, Keyword::NOT);
        let start = usize::from(negated);
        let table = word(start + 1).filter(|word| word.keyword != Keyword::UNNEST)?;
        if !keyword(start, Keyword::IN) {
            return None;
        }
        let span = parser.peek_nth_token_ref(start + 1).span;
        let name = table.clone().into_ident(span);
        for _ in 0..start + 2 {
            parser.advance_token();
        }
        Some(Ok(Expr::InList {
            expr: Box::new(expr.clone()),
            list: vec![Expr::Identifier(name)],
            negated,
        }))
    }

    fn is_select_item_alias(&self, explicit: bool, kw: &Keyword, parser: &mut Parser) -> bool {
        explicit || (!CLAUSE_WORDS.contains(kw) && self.is_column_alias(kw, parser))
    }
}
