//! Patterns as text.

use super::super::plan::{Application, Pattern};
use super::Tree;

/// The columns of the match row.
pub(super) fn register_columns(pattern: &Pattern, _application: &Application) -> Vec<String> {
    let registers = pattern.registers.iter();
    registers.map(|one| format!("{:?}", one.take)).collect()
}

/// The line for a pattern, and below it what it is made of.
pub(super) fn show_pattern(pattern: &Pattern, _application: &Application, tree: &mut Tree) {
    tree.down(format!("{pattern:?}"));
}
