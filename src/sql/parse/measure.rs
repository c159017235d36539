//! Expressions of MATCH_RECOGNIZE, rewritten into those of our patterns.
//!
//! ```text
//! FIRST(v.x)        v[0].x              LAST(v.x)        v.x
//! FIRST(v.x, n)     v[n].x              LAST(v.x, n)     v[last-n].x
//! count(v.*)        count(v)            FINAL f(v.x)     f(v.x)       in MEASURES
//! ```
//!
//! For a variable that takes one row both FIRST and LAST are `v.x`. In DEFINE of `v` itself the row
//! that has just come counts as taken in the standard, and does not with us: there LAST(v.x, n) is
//! `v[last-(n-1)].x`, and FIRST(v.x) is the row itself as long as it is the first.
//!
//! The tokens are rewritten, not the expression: what must be replaced can be seen in them.

use sqlparser::ast::Expr;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::super::aggregates::aggregate_named;
use super::super::ast::Name;
use super::{Parsed, StatementParser, is_blank, place_of};
use crate::diagnostic::{Diagnostic, did_you_mean};

/// What takes rows.
pub(super) struct Variable {
    pub(super) name: Name,
    /// Whether it has a quantifier.
    pub(super) several: bool,
    /// Whether each match has a row of it.
    pub(super) certain: bool,
}

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) enum Clause<'a> {
    Measures,
    /// DEFINE of this variable.
    Define(&'a Name),
}

/// What an expression may speak of.
pub(super) struct Rows<'a> {
    pub(super) variables: &'a [Variable],
    /// The columns of PARTITION BY.
    pub(super) keys: &'a [Name],
    pub(super) clause: Clause<'a>,
}

impl Rows<'_> {
    fn own(&self) -> Option<&Name> {
        match self.clause {
            Clause::Measures => None,
            Clause::Define(own) => Some(own),
        }
    }

    fn variable(&self, word: &Word) -> Option<&Variable> {
        let mut variables = self.variables.iter();
        variables.find(|variable| variable.name.text == word.value)
    }
}

impl StatementParser<'_> {
    /// The tokens of an expression up to `end`, a comma or the end of what is around.
    pub(super) fn tokens_up_to(&mut self, end: Option<&str>) -> Vec<TokenWithSpan> {
        let mut depth = 0_usize;
        let mut tokens = Vec::new();
        loop {
            match self.peek() {
                Token::EOF => return tokens,
                Token::Comma | Token::RParen | Token::RBracket if depth == 0 => return tokens,
                _ if depth == 0 && end.is_some_and(|end| self.peek_word(end)) => return tokens,
                Token::LParen | Token::LBracket => depth += 1,
                Token::RParen | Token::RBracket => depth -= 1,
                _ => {}
            }
            tokens.push(self.parser.next_token());
        }
    }

    /// An expression of these tokens.
    pub(super) fn row_expression(&self, tokens: &[TokenWithSpan], rows: &Rows) -> Parsed<Expr> {
        if is_blank(tokens) {
            return Err(self.expected("an expression"));
        }
        let rewriter = Rewriter {
            path: self.path,
            rows,
            tokens,
            out: Vec::new(),
        };
        let tokens = rewriter.run()?;
        let mut parser = StatementParser::new(self.path, &tokens);
        let expr = parser.sql(Parser::parse_expr).map_err(|fault| Diagnostic {
            message: fault
                .message
                .replace("of the statement", "of the expression"),
            ..fault
        })?;
        if parser.peek() != Token::EOF {
            return Err(parser.expected("an operator or the end of the expression"));
        }
        Ok(expr)
    }
}

/// The column of PARTITION BY, as a row of the match has it.
pub(super) fn key_tokens(variables: &[Variable], key: &Name) -> Vec<Token> {
    let column = |variable: &Variable| {
        let [of, column] =
            [&variable.name, key].map(|name| Token::make_word(&name.text, Some('"')));
        [of, Token::Period, column]
    };
    if let Some(certain) = variables.iter().find(|variable| variable.certain) {
        return column(certain).to_vec();
    }
    let mut tokens = vec![Token::make_word("coalesce", None), Token::LParen];
    for (index, variable) in variables.iter().enumerate() {
        if index > 0 {
            tokens.push(Token::Comma);
        }
        tokens.extend(column(variable));
    }
    tokens.push(Token::RParen);
    tokens
}

struct Rewriter<'a> {
    path: &'a str,
    rows: &'a Rows<'a>,
    tokens: &'a [TokenWithSpan],
    out: Vec<TokenWithSpan>,
}

impl Rewriter<'_> {
    fn run(mut self) -> Parsed<Vec<TokenWithSpan>> {
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            let taken = match &token.token {
                Token::Word(word) if at == 0 || !self.is(at - 1, &Token::Period) => {
                    self.word(at, token, word)?
                }
                _ => 0,
            };
            if taken == 0 {
                self.out.push(token.clone());
            }
            at += taken.max(1);
        }
        Ok(self.out)
    }

    /// Rewrites what begins with this word; how many tokens that are, 0 when it stays as it is.
    fn word(&mut self, at: usize, token: &TokenWithSpan, word: &Word) -> Parsed<usize> {
        if word.quote_style.is_some() {
            return Ok(self.key(at, token, word));
        }
        if self.calls_over_rows(at + 1) {
            match (word.keyword, self.rows.clause) {
                (Keyword::FINAL, Clause::Measures) => return Ok(self.call(at + 1)? + 1),
                (_, Clause::Define(_)) if word.value.eq_ignore_ascii_case("RUNNING") => {
                    return Ok(self.call(at + 1)? + 1);
                }
                (Keyword::FINAL, Clause::Define(_)) => {
                    let message = "FINAL does not belong into DEFINE";
                    let hint = "a condition is decided before the match is complete";
                    return Err(self.fault(token, message).with_hint(hint));
                }
                (_, Clause::Measures) if word.value.eq_ignore_ascii_case("RUNNING") => {
                    let fault = self.fault(token, "RUNNING is not supported in MEASURES");
                    return Err(fault.with_hint("ONE ROW PER MATCH has the whole match: FINAL"));
                }
                _ => {}
            }
        }
        if !self.is(at + 1, &Token::LParen) {
            return Ok(self.key(at, token, word));
        }
        let refused = [
            (
                "PREV",
                "name the row: a variable before it, or LAST(v.x, 1)",
            ),
            ("NEXT", "name the row: give it a variable of its own"),
            ("CLASSIFIER", "count(v.*) tells whether a variable has rows"),
            (
                "MATCH_NUMBER",
                "count the matches in a query that reads them",
            ),
        ];
        for (name, hint) in refused {
            if word.value.eq_ignore_ascii_case(name) {
                let fault = self.fault(token, format!("{name} is not supported"));
                return Err(fault.with_hint(hint));
            }
        }
        if self.calls_over_rows(at) {
            return self.call(at);
        }
        Ok(0)
    }

    /// Whether FIRST, LAST or an aggregate is called here.
    fn calls_over_rows(&self, at: usize) -> bool {
        let Some(Token::Word(word)) = self.tokens.get(at).map(|token| &token.token) else {
            return false;
        };
        let operator = matches!(word.keyword, Keyword::AND | Keyword::OR | Keyword::NOT);
        let known = is_navigation(word) || aggregate_named(&word.value).is_some();
        word.quote_style.is_none() && !operator && known && self.is(at + 1, &Token::LParen)
    }

    fn call(&mut self, at: usize) -> Parsed<usize> {
        match self.tokens.get(at) {
            Some(TokenWithSpan {
                token: Token::Word(word),
                ..
            }) if is_navigation(word) => self.navigation(at, word),
            _ => self.aggregate(at),
        }
    }

    /// `FIRST(v.x)`, `FIRST(v.x, n)`, and LAST.
    fn navigation(&mut self, at: usize, word: &Word) -> Parsed<usize> {
        let first = word.value.eq_ignore_ascii_case("FIRST");
        let name = word.value.to_uppercase();
        let behind = self.tokens.iter().skip(at + 1).take(7);
        let behind: Vec<&Token> = behind.map(|token| &token.token).collect();
        let (of, column, offset, taken) = match behind.as_slice() {
            [
                Token::LParen,
                Token::Word(of),
                Token::Period,
                Token::Word(column),
                Token::RParen,
                ..,
            ] => (of, column, Some(0), 6),
            [
                Token::LParen,
                Token::Word(of),
                Token::Period,
                Token::Word(column),
                Token::Comma,
                Token::Number(offset, false),
                Token::RParen,
            ] => (of, column, offset.parse::<u32>().ok(), 8),
            _ => {
                let message = format!("{name} takes a column of a variable");
                let hint = format!("write {name}(v.x), or {name}(v.x, 1)");
                return Err(self.fault_at(at, message).with_hint(hint));
            }
        };
        let variable = self.variable_at(at + 2, of)?;
        let Some(offset) = offset else {
            let message = format!("the offset of {name} is too large");
            return Err(self.fault_at(at, message));
        };
        if !variable.several && offset > 0 {
            let fault = self.fault_at(at, format!("variable '{}' takes one row", of.value));
            return Err(fault.with_hint(format!("write {}.{}", of.value, column.value)));
        }
        let own = self.rows.own().is_some_and(|own| own.text == of.value);
        if own && first && offset > 0 {
            let message = format!("{name} with an offset is not supported in DEFINE of '{of}'");
            return Err(self.fault_at(at, message));
        }
        let access = |subscript: Vec<Token>| {
            let mut tokens = vec![Token::Word(of.clone())];
            tokens.extend(subscript);
            tokens.extend([Token::Period, Token::Word(column.clone())]);
            tokens
        };
        let tokens = match (variable.several, first, own) {
            (false, _, _) => access(Vec::new()),
            (true, true, true) => {
                let mut tokens = vec![Token::make_word("coalesce", None), Token::LParen];
                tokens.extend(access(nth(0)));
                tokens.push(Token::Comma);
                tokens.extend(access(Vec::new()));
                tokens.push(Token::RParen);
                tokens
            }
            (true, true, false) => access(nth(offset)),
            (true, false, true) => access(offset.checked_sub(1).map_or(Vec::new(), from_last)),
            (true, false, false) if offset == 0 => access(Vec::new()),
            (true, false, false) => access(from_last(offset)),
        };
        self.push(at, tokens);
        Ok(taken)
    }

    /// An aggregate over the rows of one variable.
    fn aggregate(&mut self, at: usize) -> Parsed<usize> {
        let name = match self.tokens.get(at).map(|token| &token.token) {
            Some(Token::Word(word)) => word.value.clone(),
            _ => String::new(),
        };
        let mut depth = 0_usize;
        let mut of: Option<&Word> = None;
        let mut end = at + 1;
        while let Some(token) = self.tokens.get(end) {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::Word(word)
                    if !self.is(end - 1, &Token::Period)
                        && (self.is(end + 1, &Token::Period) || self.is_alone(at, word)) =>
                {
                    self.aggregated(end, &name, word, of)?;
                    of = Some(word);
                }
                _ => {}
            }
            end += 1;
            if depth == 0 {
                break;
            }
        }
        let Some(of) = of else {
            let message = format!("{name} over all rows of a match is not supported");
            let hint = format!("name a variable: {name}(v.x), or count(v.*)");
            return Err(self.fault_at(at, message).with_hint(hint));
        };
        let inside = self.tokens.get(at + 1..end).unwrap_or_default();
        let kinds: Vec<&Token> = inside.iter().map(|token| &token.token).collect();
        let counts_rows = matches!(kinds.as_slice(), [_, _, Token::Period, Token::Mul, _]);
        let counted = [Token::LParen, Token::Word(of.clone()), Token::RParen];
        self.out.extend(self.tokens.get(at).cloned());
        if counts_rows {
            self.push(at, counted.to_vec());
        } else {
            self.out.extend(inside.iter().cloned());
        }
        Ok(end - at)
    }

    /// Whether the aggregate at `at` has a variable as its argument: `count(v)`.
    fn is_alone(&self, at: usize, word: &Word) -> bool {
        self.rows.variable(word).is_some() && self.is(at + 3, &Token::RParen)
    }

    /// Whether this aggregate may go over this variable.
    fn aggregated(&self, at: usize, name: &str, word: &Word, known: Option<&Word>) -> Parsed<()> {
        let variable = self.variable_at(at, word)?;
        if known.is_some_and(|known| known.value != word.value) {
            let message = format!("{name} goes over the rows of one variable");
            return Err(self.fault_at(at, message));
        }
        if self.rows.own().is_some_and(|own| own.text == word.value) {
            let message = format!("{name} over '{word}' is not supported in DEFINE of '{word}'");
            return Err(self.fault_at(at, message));
        }
        if !variable.several {
            let fault = self.fault_at(at, format!("variable '{word}' takes one row"));
            return Err(fault.with_hint(format!("write its column without {name}")));
        }
        Ok(())
    }

    /// A column of PARTITION BY without a variable: the same in all rows of a match.
    fn key(&mut self, at: usize, token: &TokenWithSpan, word: &Word) -> usize {
        let Some(key) = self.rows.keys.iter().find(|key| key.text == word.value) else {
            return 0;
        };
        let next = self.tokens.get(at + 1).map(|token| &token.token);
        // A type, a variable or a literal like DATE '…' may be called as a column is.
        let other = matches!(
            next,
            Some(Token::Period | Token::LParen | Token::LBracket | Token::SingleQuotedString(_))
        );
        let ty = at > 0
            && self.tokens.get(at - 1).is_some_and(|token| {
                token.token == Token::DoubleColon || super::is_word(token, "AS")
            });
        if other || ty || self.rows.own().is_some() {
            return 0;
        }
        let tokens = key_tokens(self.rows.variables, key);
        let spanned = tokens.into_iter();
        self.out
            .extend(spanned.map(|one| TokenWithSpan::new(one, token.span)));
        1
    }

    fn variable_at(&self, at: usize, word: &Word) -> Parsed<&Variable> {
        self.rows.variable(word).ok_or_else(|| {
            let message = format!("unknown variable '{}'", word.value);
            let names = self.rows.variables.iter();
            let hint = did_you_mean(&word.value, names.map(|one| one.name.text.as_str()));
            self.fault_at(at, message).with_hint_if(hint)
        })
    }

    fn is(&self, at: usize, token: &Token) -> bool {
        self.tokens.get(at).is_some_and(|one| one.token == *token)
    }

    /// Tokens that stand for the one at `at`.
    fn push(&mut self, at: usize, tokens: Vec<Token>) {
        if let Some(TokenWithSpan { span, .. }) = self.tokens.get(at) {
            let spanned = tokens.into_iter();
            self.out
                .extend(spanned.map(|token| TokenWithSpan::new(token, *span)));
        }
    }

    fn fault(&self, token: &TokenWithSpan, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.path, place_of(token.span), message)
    }

    fn fault_at(&self, at: usize, message: impl Into<String>) -> Diagnostic {
        let place = self.tokens.get(at).map(|token| place_of(token.span));
        Diagnostic::error(self.path, place.unwrap_or_default(), message)
    }
}

fn is_navigation(word: &Word) -> bool {
    word.value.eq_ignore_ascii_case("FIRST") || word.value.eq_ignore_ascii_case("LAST")
}

/// `[n]`
fn nth(index: u32) -> Vec<Token> {
    vec![
        Token::LBracket,
        Token::Number(index.to_string(), false),
        Token::RBracket,
    ]
}

/// `[last]`, `[last-n]`
fn from_last(offset: u32) -> Vec<Token> {
    let mut tokens = vec![Token::LBracket, Token::make_word("last", None)];
    if offset > 0 {
        tokens.push(Token::Minus);
        tokens.push(Token::Number(offset.to_string(), false));
    }
    tokens.push(Token::RBracket);
    tokens
}
