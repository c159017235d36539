//! What two streams cannot both have: a serial port, an address that is listened at, a session at
//! a broker.
//!
//! Connectors say which options those are ([`OptionSpec::exclusive`]). Only what is written the
//! same is found to be the same; another name for the same port is found when it is opened.

use crate::config::options::{OptionSpec, OptionValue, Options};
use crate::config::{self, StreamDefinition};
use crate::diagnostic::Diagnostic;

/// A stream with a connector.
pub(super) struct Stream<'a> {
    pub(super) definition: StreamDefinition<'a>,
    pub(super) extension: &'a str,
    pub(super) options: &'a Options,
}

/// One finding for each stream that wants what an earlier one has, at its value.
pub(super) fn collisions(streams: &[Stream<'_>]) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for (index, later) in streams.iter().enumerate() {
        let names = exclusive(later.definition.specs);
        let Some((last, others)) = names.split_last() else {
            continue;
        };
        let earlier = streams.iter().take(index).find(|earlier| {
            earlier.extension == later.extension
                && exclusive(earlier.definition.specs) == names
                && names
                    .iter()
                    .all(|name| same(earlier.options, later.options, name))
        });
        if let Some(earlier) = earlier {
            let with = match others {
                [] => String::new(),
                others => format!(" with the same {}", others.join(", ")),
            };
            let name = earlier.definition.name;
            let problem = format!("stream '{name}' has it already{with}, and only one can");
            faults.push(config::unusable(
                later.definition,
                later.options,
                last,
                &problem,
            ));
        }
    }
    faults
}

fn exclusive<'a>(specs: &[&'a [OptionSpec]]) -> Vec<&'a str> {
    let all = specs.iter().copied().flatten();
    all.filter(|spec| spec.exclusive)
        .map(|spec| spec.name)
        .collect()
}

/// Whether both have a value and it is the same; lists are when they share a text.
fn same(one: &Options, other: &Options, name: &str) -> bool {
    match (one.value(name), other.value(name)) {
        (Some(OptionValue::List(one)), Some(OptionValue::List(other))) => {
            one.iter().any(|text| other.contains(text))
        }
        (Some(one), Some(other)) => one == other,
        (None, _) | (_, None) => false,
    }
}
