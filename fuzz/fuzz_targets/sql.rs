//! Any text: a plan that can be shown, or diagnostics that can be drawn.
#![no_main]

use eventflux::sql::{self, SqlText};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let texts = [SqlText { path: "fuzz".to_owned(), text: text.to_owned() }];
    match sql::compile(&texts) {
        Ok(plan) => drop(sql::explain::explain(&plan)),
        Err(faults) => {
            assert!(!faults.is_empty());
            faults.iter().for_each(|fault| drop(fault.render(text)));
        }
    }
});
