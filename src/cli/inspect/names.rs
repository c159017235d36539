//! What the store itself says of names: which columns a stream had, what an operator is called.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::checkpoint;
use crate::engine::Engine;
use crate::event::{Schema, Seq};
use crate::pipeline::{application_of, compiled};
use crate::store::Store;
use crate::wal::{self, Body, Found, Record};

use super::Trouble;

/// The columns of the streams of all applications that the store knows.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    known: BTreeMap<(String, u32), Arc<Schema>>,
}

impl Schemas {
    /// Reads the applications in the log, and those in the checkpoints, as the log may have been
    /// trimmed.
    pub(super) fn read(store: &dyn Store) -> Result<Schemas, Trouble> {
        let mut schemas = Schemas::default();
        let mut texts = Vec::new();
        wal::look_at(store, Seq(1), &mut |found| {
            if let Found::Record { record, .. } | Found::Aside { record } = found {
                if let Record {
                    body: Body::Config { text, .. },
                    ..
                } = record
                {
                    texts.push(text);
                }
            }
            ControlFlow::Continue(())
        })?;
        for listed in checkpoint::list(store)? {
            if let Ok(restored) = checkpoint::load(store, &listed, &mut |_| {})? {
                texts.push(application_of(&restored));
            }
        }
        texts.sort();
        texts.dedup();
        for text in texts {
            schemas.learn(&text);
        }
        Ok(schemas)
    }

    fn learn(&mut self, application: &str) {
        let Some((plan, _)) = compiled(application) else {
            return;
        };
        for stream in &plan.streams {
            let key = (stream.name.clone(), stream.schema.fingerprint());
            self.known.insert(key, Arc::clone(&stream.schema));
        }
    }

    /// The columns of a stream, by the fingerprint that its records carry.
    pub(super) fn of(&self, stream: &str, fingerprint: u32) -> Option<&Arc<Schema>> {
        self.known.get(&(stream.to_owned(), fingerprint))
    }
}

/// What operators are called in an application.
pub(super) struct Operators(Option<Engine>);

impl Operators {
    pub(super) fn of(application: &str) -> Operators {
        let compiled = compiled(application);
        Operators(compiled.map(|(plan, _)| Engine::new(Arc::new(plan), |_| false)))
    }

    pub(super) fn name(&self, operator: u64) -> Option<String> {
        self.0.as_ref()?.names_of(&[operator]).pop()
    }
}
