//! Patterns against their rules.
