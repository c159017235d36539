//! Writes what the package says about the program: the manual page and the completions from the
//! command line's own declaration, and the licences of everything that is linked into the binary.
//!
//! `documents FOLDER TRIPLE [FEATURE,…]`: the licences are those of this target and these features.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use serde::Deserialize;

type Done<T = ()> = Result<T, Box<dyn Error>>;

const NAME: &str = "eventflux";

fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, triple, features) = match arguments.as_slice() {
        [folder, triple] => (folder, triple, ""),
        [folder, triple, features] => (folder, triple, features.as_str()),
        _ => return Err("usage: documents FOLDER TRIPLE [FEATURE,…]".into()),
    };
    let folder = Path::new(folder);
    fs::create_dir_all(folder)?;
    fs::write(folder.join("eventflux.1"), manual()?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut eventflux::cli::command(), NAME, folder)?;
    }
    fs::write(
        folder.join("third-party-licences"),
        licences(triple, features)?,
    )?;
    Ok(())
}

/// What the command line itself does not say.
const REST: &str = r#".SH SIGNALS
.TP
SIGTERM, SIGINT
Stop in order: sources, pipeline, sinks, a checkpoint; at most for \fIshutdown.deadline\fR. A second
one ends the daemon at once, which loses nothing either.
.TP
SIGHUP
Read the configuration anew and put in force what has changed; one that is faulty is refused.
.SH ENVIRONMENT
.TP
\fIEVENTFLUX_LOG\fR
Overrides \fIlog.level\fR of the configuration, such as \fBdebug\fR or \fBwarn,eventflux=trace\fR.
.TP
\fICREDENTIALS_DIRECTORY\fR
Where ${secret:name} is looked for first; systemd sets it for LoadCredential=.
.TP
any other
Stands in the configuration for ${NAME} and ${NAME:default}.
.SH FILES
.TP
/etc/eventflux/eventflux.toml
The configuration of the service, with every default and a word about it.
.TP
/etc/eventflux/secrets/
A file (mode 0600, owned by the user eventflux) for each ${secret:name} that systemd does not pass.
.TP
/var/lib/eventflux/
The store: the log, checkpoints, and what waits for its far side.
.TP
/usr/share/doc/eventflux/examples/
Applications to begin with.
.SH SEE ALSO
.BR systemctl (1),
.BR journalctl (1),
.BR systemd.exec (5)
.PP
https://github.com/eventflux-io/eventflux
"#;

/// `eventflux(1)`: all commands on one page.
fn manual() -> Done<String> {
    // `-h` is said once, for all of them.
    let root = without_help(eventflux::cli::command()).disable_help_flag(false);
    let manual = concat!("EventFlux ", env!("CARGO_PKG_VERSION"));
    let page = Man::new(root.clone()).manual(manual).source(manual);
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    writeln!(
        text,
        ".SH NAME\n{NAME} \\- {}",
        env!("CARGO_PKG_DESCRIPTION")
    )?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    writeln!(text, ".SH COMMANDS")?;
    let mut root = root;
    root.build();
    for command in root.get_subcommands() {
        section(command, &mut text)?;
    }
    let help = root.get_after_help().map(ToString::to_string);
    text.extend_from_slice(examples(&help.unwrap_or_default()).as_bytes());
    writeln!(text, ".SH EXIT STATUS")?;
    for (exit, meaning) in eventflux::cli::TABLE {
        writeln!(text, ".TP\n{}\n{meaning}", exit.code())?;
    }
    text.extend_from_slice(REST.as_bytes());
    Ok(String::from_utf8(text)?)
}

/// What `--help` ends with, but the exit codes, which have a section of their own.
fn examples(help: &str) -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    let lines = help.lines().skip(1);
    for line in lines.take_while(|line| !line.starts_with("Exit codes")) {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.render()
}

fn without_help(command: clap::Command) -> clap::Command {
    command
        .disable_help_flag(true)
        .mut_subcommands(without_help)
}

/// A command, or those below it.
fn section(command: &clap::Command, text: &mut Vec<u8>) -> Done {
    if command.has_subcommands() {
        for inner in command.get_subcommands() {
            section(inner, text)?;
        }
        return Ok(());
    }
    let name = command.get_bin_name().unwrap_or(NAME);
    writeln!(text, ".SS {name}")?;
    let page = Man::new(command.clone());
    let mut part = Vec::new();
    page.render_synopsis_section(&mut part)?;
    writeln!(part, ".PP")?;
    page.render_description_section(&mut part)?;
    page.render_options_section(&mut part)?;
    // The parts of a command have no headings of their own.
    let part = String::from_utf8(part)?;
    for line in part.lines().filter(|line| !line.starts_with(".SH")) {
        writeln!(text, "{line}")?;
    }
    Ok(())
}

/// What `cargo metadata` tells, as far as it matters here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    authors: Vec<String>,
    manifest_path: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    root: String,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `None` is an ordinary dependency.
    kind: Option<String>,
}

fn licences(triple: &str, features: &str) -> Done<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", triple, "--features", features])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let mut list = String::from(
        "What is linked into /usr/bin/eventflux besides Rust's standard library, which is under\n\
         MIT OR Apache-2.0 (https://github.com/rust-lang/rust), and under which licence. The\n\
         texts follow.\n\n",
    );
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked(&metadata) {
        let who = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("see below");
        list += &format!("{who}: {licence}");
        if !package.authors.is_empty() {
            list += &format!("; {}", package.authors.join(", "));
        }
        list.push('\n');
        let manifest = Path::new(&package.manifest_path);
        let folder = manifest.parent().ok_or("a manifest without a folder")?;
        for text in notices(folder)? {
            texts.entry(text).or_default().insert(who.clone());
        }
    }
    for (text, crates) in texts {
        let crates: Vec<String> = crates.into_iter().collect();
        let line = "-".repeat(80);
        list += &format!("\n{line}\n{}\n{line}\n\n{text}\n", crates.join(", "));
    }
    Ok(list)
}

/// Every crate that is reached by ordinary dependencies, in the order of their names. Macros run in
/// the compiler and leave nothing of themselves in the binary.
fn linked(metadata: &Metadata) -> Vec<&Package> {
    let nodes: BTreeMap<&str, &Node> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let packages: BTreeMap<&str, &Package> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package))
        .collect();
    let is_macro = |id: &str| {
        packages.get(id).is_some_and(|package| {
            let mut kinds = package.targets.iter().flat_map(|target| &target.kind);
            kinds.any(|kind| kind == "proc-macro")
        })
    };
    let root = metadata.resolve.root.as_str();
    let mut reached = BTreeSet::from([root]);
    let mut open = vec![root];
    while let Some(node) = open.pop().and_then(|id| nodes.get(id)) {
        for dependency in &node.deps {
            let mut kinds = dependency.dep_kinds.iter();
            let ordinary = kinds.any(|kind| kind.kind.is_none());
            let id = dependency.pkg.as_str();
            if ordinary && !is_macro(id) && reached.insert(id) {
                open.push(id);
            }
        }
    }
    reached.remove(root);
    let mut found: Vec<&Package> = reached
        .into_iter()
        .filter_map(|id| packages.get(id).copied())
        .collect();
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    found
}

/// The licences and notices that a crate comes with.
fn notices(folder: &Path) -> Done<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let is_one = ["LICEN", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
        if entry.file_type()?.is_file() && is_one.iter().any(|start| name.starts_with(start)) {
            names.push(entry.path());
        }
    }
    names.sort();
    let mut texts = Vec::new();
    for name in names {
        let bytes = fs::read(name)?;
        let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
        texts.push(text.trim_matches('\n').trim_end().to_owned());
    }
    Ok(texts)
}
