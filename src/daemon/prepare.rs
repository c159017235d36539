//! Everything that can be found out before anything starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::config::options::{OptionFault, OptionSpec, Options};
use crate::config::{self, Environment, Expander, Settings, StreamDefinition};
use crate::decode;
use crate::diagnostic::{Diagnostic, Severity};
use crate::encode;
use crate::event::Schema;
use crate::mqtt::default_client_id;
use crate::sink::{self, Sink};
use crate::source::{self, Source};
use crate::sql::plan::{Role, Stream, StreamId};
use crate::sql::{self, Application, SqlText};

/// What is wrong with a configuration, and the texts it is about.
pub type Failure = config::Failure;

/// A source or a sink that is ready to run.
#[derive(Debug)]
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

/// A configuration in which nothing is wrong, nothing started yet.
#[derive(Debug)]
pub struct Prepared {
    /// The settings.
    pub settings: Settings,
    /// The compiled SQL.
    pub application: Arc<Application>,
    /// What somebody should know all the same.
    pub warnings: Vec<Diagnostic>,
    /// The texts that warnings are about, by path.
    pub texts: BTreeMap<String, String>,
    /// Sources.
    pub sources: Vec<Connector<Source>>,
    /// Sinks.
    pub sinks: Vec<Connector<Sink>>,
    pub(super) sql: Vec<SqlText>,
}

/// Reads and checks a `.toml` or a `.sql` file, completely.
///
/// # Errors
/// All that is wrong with it and with what it names.
pub fn prepare(path: &Path, environment: Environment<'_>) -> Result<Prepared, Failure> {
    let config::Loaded {
        settings,
        mut warnings,
        texts,
    } = config::load(path, environment)?;
    let sql: Vec<SqlText> = settings
        .application
        .sql
        .iter()
        .map(|text| SqlText {
            path: text.path.clone(),
            text: text.text.clone(),
        })
        .collect();
    let (mut application, faults) = sql::compile_what_is_right(&sql);
    let expander = Expander::new(environment, &settings.secrets.path);
    let mut binder = Binder {
        settings: &settings,
        expander,
        faults,
        used: Vec::new(),
        options: BTreeMap::new(),
    };
    let (mut sources, mut sinks) = (Vec::new(), Vec::new());
    for (id, stream) in (0..).map(StreamId).zip(&application.streams) {
        match stream.role {
            Role::Internal => binder.internal(id, stream),
            Role::Source => sources.extend(binder.source(id, stream)),
            Role::Sink => sinks.extend(binder.sink(id, stream)),
        }
    }
    let is_error = |fault: &Diagnostic| fault.severity == Severity::Error;
    if !binder.faults.iter().any(is_error) {
        binder.unused(&application);
    }
    let Binder {
        mut faults,
        options,
        ..
    } = binder;
    faults.extend(sql::time::settle(&mut application, &options));
    if faults.iter().any(is_error) {
        return Err(Failure {
            diagnostics: faults,
            texts,
        });
    }
    warnings.extend(faults);
    let application = Arc::new(application);
    Ok(Prepared {
        application,
        warnings,
        texts,
        sources,
        sinks,
        sql,
        settings,
    })
}

/// Gives streams their options and connectors.
struct Binder<'a> {
    settings: &'a Settings,
    expander: Expander<'a>,
    faults: Vec<Diagnostic>,
    used: Vec<&'static [OptionSpec]>,
    /// What shapes the plan is among them.
    options: BTreeMap<StreamId, Options>,
}

impl Binder<'_> {
    /// The options of a stream; faults are noted.
    fn options(&mut self, stream: &Stream, specs: &[&'static [OptionSpec]]) -> Option<Options> {
        self.used.extend(specs);
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
        Some(options)
    }

    fn internal(&mut self, id: StreamId, stream: &Stream) {
        if let Some(options) = self.options(stream, &[sql::time::OPTIONS]) {
            self.options.insert(id, options);
        }
    }

    fn known(
        &mut self,
        stream: &Stream,
        what: &str,
        name: &str,
        all: &[(&'static str, &'static [OptionSpec])],
    ) -> Option<&'static [OptionSpec]> {
        let found = all
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, specs)| *specs);
        if found.is_none() {
            let names: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
            let message = format!("stream '{}' has an unknown {what} '{name}'", stream.name);
            let hint = crate::diagnostic::did_you_mean(name, names.iter().copied())
                .unwrap_or_else(|| format!("known are {}", names.join(", ")));
            self.faults
                .push(Diagnostic::error(&stream.path, stream.place, message).with_hint(hint));
        }
        found
    }

    fn source(&mut self, id: StreamId, stream: &Stream) -> Option<Connector<Source>> {
        let extension = stream.connector.as_deref().unwrap_or_default();
        let format = stream.format.as_deref().unwrap_or("json");
        let specs = self.known(stream, "source 'extension'", extension, source::EXTENSIONS);
        let formats = self.known(stream, "'format'", format, decode::FORMATS);
        let specs = [specs?, formats?, source::INTAKE_OPTIONS, sql::time::OPTIONS];
        let options = self.options(stream, &specs)?;
        self.options.insert(id, options.clone());
        let made_of = self.made_of(stream, (extension, format), &options);
        match Source::new(&made_of.definition(&stream.name)) {
            Ok(ready) => Some(connector(id, stream, made_of, ready)),
            Err(fault) => self.unusable(stream, &specs, &options, &fault),
        }
    }

    fn sink(&mut self, id: StreamId, stream: &Stream) -> Option<Connector<Sink>> {
        let extension = stream.connector.as_deref().unwrap_or_default();
        let specs = self.known(stream, "sink 'extension'", extension, sink::EXTENSIONS);
        let format = stream.format.as_deref().unwrap_or("json");
        let formats = self.known(stream, "'format'", format, encode::FORMATS);
        let specs = [
            specs?,
            formats?,
            config::OUTBOX_OPTIONS,
            config::SINK_ERROR_OPTIONS,
        ];
        let options = self.options(stream, &specs)?;
        self.options.insert(id, options.clone());
        if let Err(fault) = self.settings.outbox.of_sink(&options) {
            return self.unusable(stream, &specs, &options, &fault);
        }
        let made_of = self.made_of(stream, (extension, format), &options);
        match Sink::new(&made_of.definition(&stream.name)) {
            Ok(ready) => Some(connector(id, stream, made_of, ready)),
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
            options: options.clone(),
            schema: Arc::clone(&stream.schema),
            client_id: self.client_id(stream),
        }
    }

    fn client_id(&self, stream: &Stream) -> String {
        let gateway = nix::unistd::gethostname().unwrap_or_default();
        default_client_id(
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

    fn unused(&mut self, application: &Application) {
        let names: Vec<&str> = application
            .streams
            .iter()
            .map(|stream| stream.name.as_str())
            .collect();
        let connectors = source::EXTENSIONS.iter().chain(sink::EXTENSIONS);
        let known: Vec<&[OptionSpec]> = connectors
            .chain(decode::FORMATS)
            .chain(encode::FORMATS)
            .map(|(_, specs)| *specs)
            .chain([
                source::INTAKE_OPTIONS,
                sql::time::OPTIONS,
                config::OUTBOX_OPTIONS,
                config::SINK_ERROR_OPTIONS,
            ])
            .collect();
        self.faults
            .extend(config::check_unused(self.settings, &names, &known));
    }
}

fn connector<T>(id: StreamId, stream: &Stream, made_of: MadeOf, ready: T) -> Connector<T> {
    Connector {
        stream: id,
        name: stream.name.clone(),
        options: made_of.options.clone(),
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
