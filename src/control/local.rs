//! How configurations are read here: the local files, and documents over them.
//!
//! What the local files say is what they said when they were put in force: an edit counts from
//! SIGHUP or a start on, whole and checked, and not with the next document or a way back, in the
//! middle of what somebody writes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::daemon::{self, Document, Failure, Files, Prepared, Salvage, Texts};
use crate::diagnostic::{Diagnostic, Severity};

/// What a document is called in findings.
pub(super) const DOCUMENT: &str = "desired.toml";

/// The local files, and what the command line says besides.
#[derive(Clone, Debug)]
pub struct Local {
    /// The files, the strongest last.
    files: Vec<PathBuf>,
    /// The store's folder, instead of what the files say.
    store: Option<PathBuf>,
    /// Looks up variables.
    environment: fn(&str) -> Option<String>,
    /// What was read of the files when they were last put in force.
    in_force: Arc<Mutex<Option<Arc<Texts>>>>,
}

impl Local {
    /// Files, the strongest last; the store's folder where it is not what they say; and what looks
    /// up variables.
    #[must_use]
    pub fn new(
        files: Vec<PathBuf>,
        store: Option<PathBuf>,
        environment: fn(&str) -> Option<String>,
    ) -> Local {
        Local {
            files,
            store,
            environment,
            in_force: Arc::default(),
        }
    }

    /// The configuration of the local files as they are now.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn prepare(&self) -> Result<Prepared, Failure> {
        let prepared = held(|| daemon::prepare_all(&self.files, &self.environment))?;
        Ok(self.at_its_place(prepared))
    }

    /// The same as they were when they were last put in force; none when nobody knows.
    pub(super) fn prepare_in_force(&self) -> Option<Result<Prepared, Failure>> {
        let texts = self.in_force()?;
        let prepared = held(|| daemon::prepare_all(self.files_as(&texts), &self.environment));
        Some(prepared.map(|prepared| self.at_its_place(prepared)))
    }

    /// The configuration that a document makes over the local files in force.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn prepare_document(&self, text: &str) -> Result<Prepared, Failure> {
        let document = Document {
            name: DOCUMENT.to_owned(),
            text: text.to_owned(),
        };
        let texts = self.in_force();
        let files = match &texts {
            Some(texts) => self.files_as(texts),
            None => Files::from(&self.files),
        };
        let prepared = held(|| daemon::prepare_document(files, &document, &self.environment))?;
        Ok(self.at_its_place(prepared))
    }

    /// Whether these are texts of the files.
    pub(super) fn has(&self, texts: &Texts) -> bool {
        let mut names = self.files.iter().map(|path| path.display().to_string());
        names.all(|name| texts.contains_key(&name))
    }

    /// These are in force.
    pub(super) fn put_in_force(&self, texts: Texts) {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        *in_force = Some(Arc::new(texts));
    }

    /// What there is to know of files that cannot be used.
    pub(super) fn salvage(&self) -> Option<Salvage> {
        let salvaged = daemon::salvage(&self.files, &self.environment)?;
        Some(match &self.store {
            Some(store) => Salvage {
                store: store.clone(),
                ..salvaged
            },
            None => salvaged,
        })
    }

    fn in_force(&self) -> Option<Arc<Texts>> {
        let in_force = self.in_force.lock();
        in_force.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn files_as<'a>(&'a self, texts: &'a Texts) -> Files<'a> {
        Files {
            paths: &self.files,
            texts: Some(texts),
        }
    }

    fn at_its_place(&self, mut prepared: Prepared) -> Prepared {
        if let Some(store) = &self.store {
            prepared.settings.store.path.clone_from(store);
        }
        prepared
    }
}

/// What is read comes from afar: should reading it come to grief, whoever minds the configuration
/// must not.
fn held(prepare: impl FnOnce() -> Result<Prepared, Failure>) -> Result<Prepared, Failure> {
    catch_unwind(AssertUnwindSafe(prepare)).unwrap_or_else(|_| {
        let bug = Diagnostic {
            severity: Severity::Error,
            path: DOCUMENT.to_owned(),
            place: None,
            message: "reading it has ended by itself, which is a bug: the log says more".to_owned(),
            hint: None,
        };
        Err(Failure {
            diagnostics: vec![bug],
            ..Failure::default()
        })
    })
}

/// The text of the document that a configuration was made of; none for local files.
pub(super) fn document_of(prepared: &Prepared) -> Option<&str> {
    prepared.texts.get(DOCUMENT).map(String::as_str)
}
