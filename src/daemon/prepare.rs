//! Everything that can be found out before anything starts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::written::{self, Written};
use super::{catalogue, collisions};
use crate::config::options::{OptionFault, OptionSpec, Options};
use crate::config::{
    self, ControlMode, Environment, Expander, Looked, Settings, StreamDefinition, Veil,
};
use crate::decode;
use crate::diagnostic::{Diagnostic, Severity};
use crate::encode;
use crate::event::Schema;
use crate::sink::{self, Sink};
use crate::source::{self, Source};
use crate::sql::plan::{Role, Stream, StreamId};
use crate::sql::{self, Application, SqlText};

pub use crate::config::Files;

/// What is wrong with a configuration, and the texts it is about.
pub type Failure = config::Failure;

/// A source or a sink that is ready to run.
pub struct Connector<T> {
    /// Which stream.
    pub stream: StreamId,
    /// The stream's name.
    pub name: String,
    /// What is set for it.
    pub options: Options,
    pub(super) made_of: MadeOf,
    /// None once it runs.
    pub(super) ready: Option<T>,
}

/// All that makes a connector what it is: where two are made of the same, one need not give way to
/// the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MadeOf {
    extension: String,
    format: String,
    options: Options,
    schema: Arc<Schema>,
    client_id: String,
}

impl MadeOf {
    fn definition<'a>(&'a self, stream: &'a str) -> config::Definition<'a> {
        config::Definition {
            stream,
            extension: &self.extension,
            format: &self.format,
            options: &self.options,
            schema: &self.schema,
            client_id: &self.client_id,
        }
    }
}

impl Connector<Source> {
    /// The source, ready to run: also when it has run before.
    pub(super) fn take(&mut self) -> Result<Source, OptionFault> {
        let ready = self.ready.take();
        ready.map_or_else(|| Source::new(&self.made_of.definition(&self.name)), Ok)
    }
}

impl Connector<Sink> {
    /// The sink, ready to run: also when it has run before.
    pub(super) fn take(&mut self) -> Result<Sink, OptionFault> {
        let ready = self.ready.take();
        ready.map_or_else(|| Sink::new(&self.made_of.definition(&self.name)), Ok)
    }
}

impl<T> Connector<T> {
    /// What it is, such as `mqtt`.
    #[must_use]
    pub fn extension(&self) -> &str {
        &self.made_of.extension
    }
}

impl<T> std::fmt::Debug for Connector<T> {
    /// The options, which know what is a secret; the connector that has taken them does not.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Connector")
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A configuration in which nothing is wrong, nothing started yet.
pub struct Prepared {
    /// The settings.
    pub settings: Settings,
    /// The compiled SQL.
    pub application: Arc<Application>,
    /// What somebody should know all the same.
    pub warnings: Vec<Diagnostic>,
    /// Everything that was read, by path, letter by letter: with the secrets that are written
    /// there.
    pub texts: BTreeMap<String, String>,
    /// The same with stars in place of the characters of secrets: what findings may be shown with.
    pub shown: BTreeMap<String, String>,
    /// Sources.
    pub sources: Vec<Connector<Source>>,
    /// Sinks.
    pub sinks: Vec<Connector<Sink>>,
    /// What is set for each stream that has options, by its name.
    pub options: BTreeMap<String, Options>,
    /// The connection for `[control]`, checked; nothing when none is wanted and none is written.
    pub control: Options,
    /// Whether it has another connection for `[control]` than the local files say.
    pub moves_control: bool,
    /// Whether it has been in force and is gone back to: then it is taken whatever that costs.
    pub returns: bool,
    pub(super) sql: Vec<SqlText>,
    pub(super) veil: Veil,
}

impl std::fmt::Debug for Prepared {
    /// Without the texts and what was made of the SQL, in which secrets may stand.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Prepared")
            .field("warnings", &self.warnings)
            .field("sources", &self.sources)
            .field("sinks", &self.sinks)
            .field("options", &self.options)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

/// Reads and checks a `.toml` or a `.sql` file, completely.
///
/// # Errors
/// All that is wrong with it and with what it names.
pub fn prepare(path: &Path, environment: Environment<'_>) -> Result<Prepared, Failure> {
    prepare_all(&[path.to_owned()], environment)
}

/// The same with several files, of which later ones hold over earlier ones; see
/// [`config::load_all`].
///
/// # Errors
/// All that is wrong with them and with what they name: with the files themselves, the SQL, and
/// the options of streams, as far as one can be judged without the others.
pub fn prepare_all<'a>(
    files: impl Into<Files<'a>>,
    environment: Environment<'_>,
) -> Result<Prepared, Failure> {
    let values = RefCell::new(Vec::new());
    let noted = noting(environment, &values);
    let mut prepared = prepare_looked(config::look(files.into(), &noted), &noted)?;
    // Whoever asks from afar what would change sees what runs, too.
    prepared.veil.note_variables(values.take());
    Ok(prepared)
}

/// Notes what is looked up.
fn noting<'a>(
    environment: Environment<'a>,
    values: &'a RefCell<Vec<String>>,
) -> impl Fn(&str) -> Option<String> + 'a {
    |name: &str| {
        let value = environment(name);
        values.borrow_mut().extend(value.clone());
        value
    }
}

/// What there is to know of files in which something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    /// Where the store is.
    pub store: PathBuf,
    /// Whether control is off; none: one of the files is not even TOML, so that nobody knows.
    pub is_control_off: Option<bool>,
}

/// Reads that much of files that cannot be used; what they do not tell is as built in.
#[must_use]
pub fn salvage(files: &[PathBuf], environment: Environment<'_>) -> Option<Salvage> {
    let looked = config::look(files.into(), environment);
    let settings = looked.settings?;
    let is_off = settings.control.mode == ControlMode::Off;
    Some(Salvage {
        store: settings.store.path,
        is_control_off: looked.options_are_whole.then_some(is_off),
    })
}

/// The same with a document from afar in place of the local files, which say only what no document
/// can: `[control]`, `[security]`, `store.path`, `secrets.path`, `[broker]` and `[simulator]`. File
/// names in the document are relative to the folder of the first of them.
///
/// # Errors
/// All that is wrong with the document and what it names, and with what the local files say of
/// that. A document may repeat what is local, and must not say anything else
/// ([`Failure::is_local_only`]), except for the connection where `control.allow_remote` is
/// `endpoint`. It must not hold secrets, only references to them.
pub fn prepare_document<'a>(
    local: impl Into<Files<'a>>,
    document: &Document,
    environment: Environment<'_>,
) -> Result<Prepared, Failure> {
    let named = (document.name.as_str(), document.text.as_str());
    let values = RefCell::new(Vec::new());
    let noted = noting(environment, &values);
    let looked = config::look_remote(local.into(), named, catalogue::CONTROL, &noted);
    let prepared = prepare_looked(looked, &noted);
    let values = values.take();
    // Whoever asks what is wrong with a document could name any variable in it.
    match prepared {
        Ok(mut prepared) => {
            prepared.veil.note_variables(values);
            prepared.warnings = written::veiled(prepared.warnings, &prepared.veil);
            Ok(prepared)
        }
        Err(mut failure) => {
            let mut veil = Veil::default();
            veil.note_variables(values);
            failure.diagnostics = written::veiled(failure.diagnostics, &veil);
            Err(failure)
        }
    }
}

/// A configuration from afar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What diagnostics call it.
    pub name: String,
    /// The TOML.
    pub text: String,
}

fn prepare_looked(looked: Looked, environment: Environment<'_>) -> Result<Prepared, Failure> {
    let (order, is_local_only) = (looked.order, looked.is_local_only);
    let written = Written::new(looked.texts);
    let mut findings = looked.findings;
    let document = looked.document.iter();
    findings.extend(document.flat_map(|document| written.secrets_in(document)));
    let failed = |findings: Vec<Diagnostic>, written: &Written| {
        let mut failure = written.failure(findings, &order);
        failure.is_local_only = is_local_only;
        failure
    };
    let Some(settings) = looked.settings else {
        return Err(failed(findings, &written));
    };
    let sql = sql_of(&settings);
    let (mut application, faults) = match looked.sql_is_whole {
        true => sql::compile_what_is_right(&sql),
        false => (Application::default(), Vec::new()),
    };
    let sql_is_right = looked.sql_is_whole && !faults.iter().any(is_error);
    let mut binder = Binder {
        settings: &settings,
        expander: Expander::new(environment, &settings.secrets.path),
        faults: findings.into_iter().chain(faults).collect(),
        options: BTreeMap::new(),
        counts: [Role::Source, Role::Sink].map(|role| count(&application, role)),
    };
    let (mut sources, mut sinks) = (Vec::new(), Vec::new());
    let control = binder.control();
    if looked.options_are_whole {
        for (id, stream) in (0..).map(StreamId).zip(&application.streams) {
            match stream.role {
                Role::Internal => binder.internal(id, stream),
                Role::Source => sources.extend(binder.source(id, stream)),
                Role::Sink => sinks.extend(binder.sink(id, stream)),
            }
        }
        binder.unused(&application, sql_is_right);
        binder.collisions(&application);
        binder.memory(&application);
    }
    let Binder {
        mut faults,
        options,
        ..
    } = binder;
    faults.extend(sql::time::settle(&mut application, &options));
    if faults.iter().any(is_error) {
        return Err(failed(faults, &written));
    }
    config::in_order(&mut faults, &order);
    let name = |id: StreamId| Some(application.stream(id)?.name.clone());
    let named = |(id, of): (StreamId, Options)| Some((name(id)?, of));
    let options = options.into_iter().filter_map(named).collect();
    Ok(Prepared {
        application: Arc::new(application),
        warnings: written.veiled(faults),
        shown: written.shown(),
        texts: written.texts,
        sources,
        sinks,
        options,
        control,
        moves_control: looked.moves_control,
        returns: false,
        sql,
        settings,
        veil: written.veil,
    })
}

fn sql_of(settings: &Settings) -> Vec<SqlText> {
    let texts = settings.application.sql.iter();
    let texts = texts.map(|text| SqlText {
        path: text.path.clone(),
        text: text.text.clone(),
    });
    texts.collect()
}

fn is_error(found: &Diagnostic) -> bool {
    found.severity == Severity::Error
}

/// Gives streams their options and connectors.
struct Binder<'a> {
    settings: &'a Settings,
    expander: Expander<'a>,
    faults: Vec<Diagnostic>,
    /// What shapes the plan is among them.
    options: BTreeMap<StreamId, Options>,
    /// How many sources and sinks there are, which share the memory.
    counts: [usize; 2],
}

impl Binder<'_> {
    /// The options of a stream; faults are noted.
    fn options(&mut self, stream: &Stream, specs: &[&'static [OptionSpec]]) -> Option<Options> {
        let properties = properties(stream);
        let resolved = config::resolve(
            definition(stream, &properties, specs),
            self.settings,
            &self.expander,
        );
        let mut options = resolved.map_err(|faults| self.faults.extend(faults)).ok()?;
        if !options.has("timestamp.field") {
            options.forget_defaults(sql::time::OPTIONS);
        }
        let [sources, sinks] = self.counts;
        let settle = config::settle_options;
        match stream.role {
            Role::Internal => {}
            Role::Source => settle(self.settings, &mut options, true, sources),
            Role::Sink => settle(self.settings, &mut options, false, sinks),
        }
        Some(options)
    }

    fn internal(&mut self, id: StreamId, stream: &Stream) {
        if let Some(options) = self.options(stream, &[sql::time::OPTIONS]) {
            self.options.insert(id, options);
        }
    }

    /// The connection for `[control]`; faults are noted.
    fn control(&mut self) -> Options {
        // Nobody could judge what is written for it; that it is wanted is a fault already.
        if catalogue::CONTROL.is_empty() {
            return Options::default();
        }
        match config::resolve_control(self.settings, catalogue::CONTROL) {
            Ok(options) => {
                let fault = unusable_connection(&options);
                let fault = fault.map(|fault| {
                    let (option, problem) = (&fault.option, &fault.problem);
                    config::unusable_control(self.settings, &options, option, problem)
                });
                self.faults.extend(fault);
                options
            }
            Err(faults) => {
                self.faults.extend(faults);
                Options::default()
            }
        }
    }

    fn known(
        &mut self,
        stream: &Stream,
        what: &str,
        name: &str,
        all: &[(&'static str, &'static [OptionSpec])],
        absent: &[(&str, &str)],
    ) -> Option<&'static [OptionSpec]> {
        let found = all
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, specs)| *specs);
        if found.is_none() {
            let names: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
            let lacking = absent.iter().find(|(absent, _)| *absent == name);
            let (message, hint) = match lacking {
                Some((_, feature)) => (
                    format!(
                        "stream '{}': this build has no {what} '{name}'",
                        stream.name
                    ),
                    format!("use one with the feature `{feature}`"),
                ),
                None => (
                    format!("stream '{}' has an unknown {what} '{name}'", stream.name),
                    crate::diagnostic::did_you_mean(name, names.iter().copied())
                        .unwrap_or_else(|| format!("known are {}", names.join(", "))),
                ),
            };
            self.faults
                .push(Diagnostic::error(&stream.path, stream.place, message).with_hint(hint));
        }
        found
    }

    fn source(&mut self, id: StreamId, stream: &Stream) -> Option<Connector<Source>> {
        let extension = stream.connector.as_deref().unwrap_or_default();
        let format = stream.format.as_deref().unwrap_or("json");
        let specs = self.known(
            stream,
            "source 'extension'",
            extension,
            source::EXTENSIONS,
            source::ABSENT,
        );
        let formats = self.known(stream, "'format'", format, decode::FORMATS, &[]);
        let specs = [specs?, formats?, source::INTAKE_OPTIONS, sql::time::OPTIONS];
        let options = self.options(stream, &specs)?;
        self.options.insert(id, options.clone());
        let made_of = self.made_of(stream, (extension, format), &options);
        match Source::new(&made_of.definition(&stream.name)) {
            Ok(ready) => Some(connector(id, stream, options, made_of, ready)),
            Err(fault) => self.unusable(stream, &specs, &options, &fault),
        }
    }

    fn sink(&mut self, id: StreamId, stream: &Stream) -> Option<Connector<Sink>> {
        let extension = stream.connector.as_deref().unwrap_or_default();
        let specs = self.known(
            stream,
            "sink 'extension'",
            extension,
            sink::EXTENSIONS,
            sink::ABSENT,
        );
        let format = stream.format.as_deref();
        let format = format.unwrap_or_else(|| sink::default_format(extension));
        let formats = self.known(stream, "'format'", format, encode::FORMATS, &[]);
        let specs = [
            specs?,
            formats?,
            config::OUTBOX_OPTIONS,
            config::SINK_ERROR_OPTIONS,
        ];
        let options = self.options(stream, &specs)?;
        self.options.insert(id, options.clone());
        let outbox = self.settings.outbox.of_sink(&options).map(|_| ());
        let policy = sink::Policy::new(&options).map(|_| ());
        if let Err(fault) = outbox.and(policy) {
            return self.unusable(stream, &specs, &options, &fault);
        }
        let made_of = self.made_of(stream, (extension, format), &options);
        match Sink::new(&made_of.definition(&stream.name)) {
            Ok(ready) => Some(connector(id, stream, options, made_of, ready)),
            Err(fault) => self.unusable(stream, &specs, &options, &fault),
        }
    }

    fn made_of(
        &self,
        stream: &Stream,
        (extension, format): (&str, &str),
        options: &Options,
    ) -> MadeOf {
        MadeOf {
            extension: extension.to_owned(),
            format: format.to_owned(),
            // That says nothing to the source itself, which need not give way when it changes.
            options: options.without(source::REQUIRED),
            schema: Arc::clone(&stream.schema),
            client_id: self.client_id(stream),
        }
    }

    fn client_id(&self, stream: &Stream) -> String {
        let gateway = nix::unistd::gethostname().unwrap_or_default();
        config::default_client_id(
            &gateway.to_string_lossy(),
            &self.settings.application.name,
            &stream.name,
        )
    }

    fn unusable<T>(
        &mut self,
        stream: &Stream,
        specs: &[&'static [OptionSpec]],
        options: &Options,
        fault: &OptionFault,
    ) -> Option<T> {
        let properties = properties(stream);
        let definition = definition(stream, &properties, specs);
        self.faults.push(config::unusable(
            definition,
            options,
            &fault.option,
            &fault.problem,
        ));
        None
    }

    /// What is written and nothing reads. Streams are missing where the SQL is wrong.
    fn unused(&mut self, application: &Application, sql_is_right: bool) {
        let known = catalogue::all_options();
        self.faults
            .extend(config::unknown_keys(self.settings, &known));
        if sql_is_right {
            let streams = application.streams.iter();
            let names: Vec<&str> = streams.map(|stream| stream.name.as_str()).collect();
            self.faults
                .extend(config::unknown_streams(self.settings, &names));
        }
    }

    /// Whether all that takes memory fits into what it may take.
    fn memory(&mut self, application: &Application) {
        let of = |role: Role| {
            let streams = (0..).map(StreamId).zip(&application.streams);
            let streams = streams.filter(move |(_, stream)| stream.role == role);
            let options = streams.filter_map(|(id, _)| self.options.get(&id));
            options.collect::<Vec<&Options>>()
        };
        let (sources, sinks) = (of(Role::Source), of(Role::Sink));
        let misfit = config::misfit(self.settings, &sources, &sinks);
        self.faults.extend(misfit);
    }

    /// What several streams cannot have together.
    fn collisions(&mut self, application: &Application) {
        let streams = (0..).map(StreamId).zip(&application.streams);
        let with_options = streams.filter_map(|(id, stream)| {
            let extension = stream.connector.as_deref()?;
            let (known, options) = (connectors(stream.role), self.options.get(&id)?);
            let (_, specs) = known.iter().find(|(name, _)| *name == extension)?;
            Some((stream, extension, [*specs], options))
        });
        let all: Vec<_> = with_options.collect();
        let all = all
            .iter()
            .map(|(stream, extension, specs, options)| collisions::Stream {
                definition: definition(stream, &[], specs),
                extension,
                options,
            });
        let all: Vec<_> = all.collect();
        self.faults.extend(collisions::collisions(&all));
    }
}

/// What is wrong with a connection to a broker; without a broker it is none.
#[cfg(feature = "mqtt")]
fn unusable_connection(options: &Options) -> Option<OptionFault> {
    // Which name it has is not known here and does not matter.
    let settings = crate::mqtt::Settings::from_options(options, "eventflux-control");
    let fault = settings.err();
    fault.filter(|_| options.has("mqtt.broker"))
}

#[cfg(not(feature = "mqtt"))]
fn unusable_connection(_: &Options) -> Option<OptionFault> {
    None
}

fn count(application: &Application, role: Role) -> usize {
    let streams = application.streams.iter();
    streams.filter(|stream| stream.role == role).count()
}

/// The connectors that a stream can name.
fn connectors(role: Role) -> &'static [(&'static str, &'static [OptionSpec])] {
    match role {
        Role::Internal => &[],
        Role::Source => source::EXTENSIONS,
        Role::Sink => sink::EXTENSIONS,
    }
}

fn connector<T>(
    id: StreamId,
    stream: &Stream,
    options: Options,
    made_of: MadeOf,
    ready: T,
) -> Connector<T> {
    Connector {
        stream: id,
        name: stream.name.clone(),
        options,
        made_of,
        ready: Some(ready),
    }
}

fn properties(stream: &Stream) -> Vec<config::Property> {
    let property = |property: &sql::plan::Property| config::Property {
        name: property.name.clone(),
        value: property.value.clone(),
        place: property.place,
        value_place: property.value_place,
    };
    stream.properties.iter().map(property).collect()
}

fn definition<'a>(
    stream: &'a Stream,
    properties: &'a [config::Property],
    specs: &'a [&'a [OptionSpec]],
) -> StreamDefinition<'a> {
    StreamDefinition {
        name: &stream.name,
        path: &stream.path,
        place: stream.place,
        properties,
        specs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::OptionValue;

    #[test]
    fn whether_a_source_is_required_does_not_make_it_another() {
        let of = |required: &str| {
            let document = Document {
                name: "desired.toml".to_owned(),
                text: format!(
                    "[application]\nsql = \"CREATE STREAM S (at LONG) WITH ('type' = 'source', \
                     'extension' = 'timer', 'timer.every' = '1 s'{required}); INSERT INTO T \
                     SELECT at FROM S;\"\n"
                ),
            };
            let prepared = prepare_document(&[], &document, &|_| None);
            let prepared = prepared.unwrap_or_else(|failure| panic!("{failure}"));
            prepared.sources.into_iter().next().unwrap()
        };
        let (unset, set) = (of(""), of(", 'required' = 'true'"));
        assert_eq!(
            set.options.value(source::REQUIRED),
            Some(&OptionValue::Flag(true))
        );
        assert!(!unset.options.has(source::REQUIRED));
        assert_eq!(set.made_of, unset.made_of);
        assert_ne!(set.made_of, of(", 'idle_timeout' = '1 s'").made_of);
    }
}
