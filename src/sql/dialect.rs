//! The lexical rules of EventFlux SQL, told to `sqlparser`.

use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;

/// Identifiers, quoting, and which words cannot be an alias.
#[derive(Debug)]
pub(crate) struct EventFluxDialect;

/// Words that begin a clause of ours and so end a select list; `sqlparser` does not reserve them.
const CLAUSE_WORDS: &[Keyword] = &[
    Keyword::INSERT,
    Keyword::UPDATE,
    Keyword::DELETE,
    Keyword::OUTPUT,
    Keyword::SELECT,
];

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

    fn is_select_item_alias(&self, explicit: bool, kw: &Keyword, parser: &mut Parser) -> bool {
        explicit || (!CLAUSE_WORDS.contains(kw) && self.is_column_alias(kw, parser))
    }
}
