//! `[control]` and `[security]`: who may change the configuration from afar.

use std::collections::BTreeSet;
use std::path::Path;

use super::build::{at, number, some};
use super::options::{Layer, OptionSpec, Options};
use super::resolve::{built_in, checked, find};
use super::settings::{AllowRemote, ControlMode, ControlSettings, OptionTable, Settings};
use super::value::excerpt;
use crate::diagnostic::{Diagnostic, did_you_mean};

/// The longest name of a node or a group.
const NAME_CHARACTERS_MAX: usize = 64;
/// The most groups that a node is in.
const GROUPS_MAX: usize = 16;
/// No more often are metrics published.
const METRICS_INTERVAL_MS_MIN: i64 = 1_000;

/// `None` when a key has no value, which is told already.
pub(super) fn settings(keys: &Options, options: OptionTable) -> Option<ControlSettings> {
    let texts = |name: &str| keys.list(name).into_iter().map(str::to_owned);
    let prefix = keys.text("control.home_assistant_prefix")?;
    Some(ControlSettings {
        mode: mode(keys),
        root: keys.text("control.root")?.to_owned(),
        node: keys.text("control.node").map(str::to_owned),
        groups: texts("control.groups").collect(),
        bytes_max: number(keys, "control.max_bytes")?,
        metrics_interval_ms: some(number(keys, "control.metrics_interval")?),
        allow_remote: match keys.text("control.allow_remote")? {
            "endpoint" => AllowRemote::Endpoint,
            _ => AllowRemote::Never,
        },
        publish_active: keys.flag("control.publish_active"),
        discovery: keys
            .flag("control.home_assistant")
            .then(|| prefix.to_owned()),
        error_ratio_max: keys.number("control.error_ratio_max")?,
        options,
    })
}

fn mode(keys: &Options) -> ControlMode {
    match keys.text("control.mode").unwrap_or_default() {
        "monitor" => ControlMode::Monitor,
        "validate" => ControlMode::Validate,
        "signed" => ControlMode::Signed,
        "unsigned" => ControlMode::Unsigned,
        _ => ControlMode::Off,
    }
}

/// What of the keys has its form and still cannot be used, and what somebody should know.
pub(super) fn check(keys: &Options, trusted: &Path, findings: &mut Vec<Diagnostic>) {
    check_names(keys, findings);
    for key in ["control.root", "control.home_assistant_prefix"] {
        let topic = keys.text(key).unwrap_or_default();
        if !is_levels(topic) {
            let message = format!(
                "'{key}' must be levels of a topic, such as 'eventflux' or 'site/eventflux': none \
                 of them empty, without '+' and '#', not beginning with '$'; not '{}'",
                excerpt(topic)
            );
            findings.extend(at(keys, key, Diagnostic::error, &message));
        }
    }
    let interval_ms = keys.integer("control.metrics_interval").unwrap_or(0);
    if (1..METRICS_INTERVAL_MS_MIN).contains(&interval_ms) {
        let message = "'control.metrics_interval' must be 0 or at least 1 s";
        let key = "control.metrics_interval";
        findings.extend(at(keys, key, Diagnostic::error, message));
    }
    check_mode(keys, trusted, findings);
}

fn check_names(keys: &Options, findings: &mut Vec<Diagnostic>) {
    let node = keys.text("control.node");
    if node.is_some_and(|name| !is_name(name)) {
        let message = "'control.node' must be 1 to 64 letters, digits, '_' and '-'";
        findings.extend(at(keys, "control.node", Diagnostic::error, message));
    }
    let key = "control.groups";
    let groups = keys.list(key);
    let mut seen = BTreeSet::new();
    let wrong = groups.iter().find_map(|group| {
        let shown = excerpt(group);
        if !is_name(group) {
            let message = format!(
                "'{key}' must be names of 1 to 64 letters, digits, '_' and '-', not '{shown}'"
            );
            return Some(message);
        }
        let is_new = seen.insert(*group);
        (!is_new).then(|| format!("'{key}' names '{shown}' twice"))
    });
    let too_many = groups.len() > GROUPS_MAX;
    let too_many = too_many.then(|| format!("'{key}' must be at most {GROUPS_MAX} groups"));
    if let Some(message) = wrong.or(too_many) {
        findings.extend(at(keys, key, Diagnostic::error, &message));
    }
}

fn check_mode(keys: &Options, trusted: &Path, findings: &mut Vec<Diagnostic>) {
    let mode = mode(keys);
    let finding = |finding, message: &str, hint: String| {
        at(keys, "control.mode", finding, message).map(|found| found.with_hint(hint))
    };
    if mode != ControlMode::Off && !cfg!(feature = "control") {
        findings.extend(finding(
            Diagnostic::error,
            "this build has no [control]",
            "build it with `cargo build --features control`, or write mode = \"off\"".to_owned(),
        ));
        return;
    }
    if mode == ControlMode::Unsigned {
        findings.extend(finding(
            Diagnostic::warning,
            "whoever may publish to the broker may change everything here, without a signature",
            "have documents signed: `eventflux control keygen`, then mode = \"signed\"".to_owned(),
        ));
    }
    if mode == ControlMode::Signed && !has_key(trusted) {
        let message = format!(
            "nobody is trusted, so that no document is accepted: there is no key in '{}'",
            trusted.display()
        );
        let hint = "put public keys there as *.pub, or name another folder in [security]: \
                    trusted_path = \"…\"";
        findings.extend(finding(Diagnostic::warning, &message, hint.to_owned()));
    }
}

/// Whether there is anything that looks like a key; whoever reads it says what is wrong with it.
fn has_key(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.any(|path| path.extension().is_some_and(|extension| extension == "pub"))
}

/// Whether a node or a group can have this name.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (1..=NAME_CHARACTERS_MAX).contains(&name.len()) && name.chars().all(allowed)
}

/// Whether topics can begin with it.
fn is_levels(topic: &str) -> bool {
    let is_level = |level: &str| !level.is_empty() && !level.contains(['+', '#', '\0']);
    !topic.starts_with('$') && topic.split('/').all(is_level)
}

/// The options of the connection for `[control]`, of these: nothing when there is none and none
/// is written.
///
/// # Errors
///
/// Every unknown option, every value of a wrong form, and every required option without a value
/// when there is to be a connection.
pub fn resolve_control(
    settings: &Settings,
    specs: &[OptionSpec],
) -> Result<Options, Vec<Diagnostic>> {
    let control = &settings.control;
    let table = &control.options;
    let is_wanted = control.mode != ControlMode::Off;
    let mut options = Options::default();
    let mut faults = Vec::new();
    for option in &table.options {
        let Some(spec) = find(&[specs], &option.name) else {
            let keys = super::keys::of_section("control").map(|(name, _)| name);
            let known: Vec<&str> = keys.chain(specs.iter().map(|spec| spec.name)).collect();
            let hint = did_you_mean(&option.name, known.iter().copied())
                .unwrap_or_else(|| format!("it knows {}", known.join(", ")));
            let message = format!("unknown option '{}' of [control]", option.name);
            let fault = Diagnostic::error(&option.path, option.key, message);
            faults.push(fault.with_hint(hint));
            continue;
        };
        // Written for this connection alone, as below [streams.<name>] for one stream alone.
        match checked(spec, option, Layer::Stream) {
            Ok(resolved) => options.put(&option.name, resolved),
            Err(fault) => faults.push(fault),
        }
    }
    if !is_wanted && table.options.is_empty() {
        return if faults.is_empty() {
            Ok(options)
        } else {
            Err(faults)
        };
    }
    for spec in specs {
        let is_written = table.options.iter().any(|option| option.name == spec.name)
            || table.unreadable.iter().any(|name| name == spec.name);
        if is_written {
            continue;
        }
        if let Some(resolved) = built_in(spec) {
            options.put(spec.name, resolved);
        } else if spec.required && is_wanted {
            let message = format!("[control] needs the option '{}'", spec.name);
            let fault = Diagnostic::error(&table.path, table.place, message);
            faults.push(fault.with_hint(format!("write it under [control]: {}", spec.doc)));
        }
    }
    match faults.is_empty() {
        true => Ok(options),
        false => Err(faults),
    }
}

/// The diagnostic for an option of the connection whose value has its form and still cannot be
/// used: at the value, or at the table when the value is built in. A problem that quotes a secret
/// is not shown.
#[must_use]
pub fn unusable_control(
    settings: &Settings,
    options: &Options,
    option: &str,
    problem: &str,
) -> Diagnostic {
    let table = &settings.control.options;
    let (path, place) = options.origin(option).unwrap_or((&table.path, table.place));
    let problem = options.without_secrets(problem);
    Diagnostic::error(path, place, format!("'{option}' of [control]: {problem}"))
}

#[cfg(test)]
mod tests {
    use crate::config::read;

    #[test]
    fn a_build_without_it_refuses_every_mode_but_off() {
        for mode in ["off", "monitor", "validate", "signed", "unsigned"] {
            let toml = format!(
                "[application]\nsql = \"x;\"\n[control]\nmode = \"{mode}\"\n\
                 [security]\ntrusted_path = \"none\"\n"
            );
            let found = read(&toml, "x", std::path::Path::new(""), &|_| None);
            let refused = !cfg!(feature = "control") && mode != "off";
            let expected = "x:4:8: error: this build has no [control]";
            let is_refused = found.is_err_and(|why| why.to_string().starts_with(expected));
            assert_eq!(is_refused, refused, "{mode}");
        }
    }
}
