//! CREATE AGGREGATION.

use super::super::ast::CreateAggregation;
use super::Binder;
use crate::diagnostic::Diagnostic;

impl Binder<'_> {
    pub(super) fn create_aggregation(&mut self, path: &str, create: &CreateAggregation) {
        if !self.is_free(path, &create.name, "aggregation") {
            return;
        }
        let message = "CREATE AGGREGATION is not supported by this version";
        self.diagnostics
            .push(Diagnostic::error(path, create.name.place, message));
        self.failed.insert(create.name.text.clone());
    }
}
