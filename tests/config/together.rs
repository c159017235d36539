//! Folders in `tests/config/together/`: the configuration files of each, read over each other, and
//! what `check` finds or, when nothing is wrong, what somebody has set and where.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use eventflux::config::options::{Layer, Options};
use eventflux::daemon::prepare_all;

use super::{ENVIRONMENT, compare};

#[test]
fn files_hold_over_each_other_and_everything_wrong_is_told_at_once() {
    let folders = std::fs::read_dir("tests/config/together").unwrap();
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 6, "the folders are not where they belong");
    for folder in folders {
        compare(&folder.join("found.txt"), &found(&folder));
    }
}

/// The files of a folder are given in the order of their names: `1-base.toml`, `2-site.toml`.
fn found(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(char::is_numeric)
    });
    files.sort();
    let prepared = match prepare_all(&files, ENVIRONMENT) {
        Ok(prepared) => prepared,
        Err(failure) => return failure.to_string(),
    };
    let mut out = String::new();
    for warning in &prepared.warnings {
        let text = prepared.texts.get(&warning.path).map_or("", String::as_str);
        out.push_str(&warning.render(text));
    }
    let streams = prepared.options.iter();
    let streams: Vec<(&str, &Options)> = streams
        .map(|(name, options)| (name.as_str(), options))
        .collect();
    for value in eventflux::config::list(&prepared.settings, &streams, &prepared.control) {
        if value.layer != Layer::Default {
            let _ = writeln!(out, "{value}\n  {}", value.json());
        }
    }
    let _ = writeln!(out, "store in {}", prepared.settings.store.path.display());
    out
}
