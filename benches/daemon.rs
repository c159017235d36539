//! The program itself in a process of its own, as a service manager would run it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::folder;

/// How long anything may take before the bench gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const LINES_MAX: usize = 4_096;

/// A daemon at work; ended when dropped.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<String>,
    /// From the making of the process to the line that says it is ready.
    pub(crate) ready_after: Duration,
    folder: TempDir,
}

impl Daemon {
    /// Runs this SQL with a fresh store. `settings` are further lines of the configuration.
    pub(crate) fn start(sql: &str, broker: &str, settings: &str) -> Daemon {
        let folder = folder::new();
        write(folder.path(), "app.sql", sql);
        let config = format!(
            "[application]\nname = \"bench\"\nsql = \"app.sql\"\nmqtt.broker = \"{broker}\"\n\
             [store]\npath = \"store\"\n{settings}\n"
        );
        write(folder.path(), "app.toml", &config);
        Daemon::run(folder)
    }

    /// Kills it, as a power cut would, and starts it again.
    pub(crate) fn start_again(mut self) -> Daemon {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let fresh = folder::new();
        Daemon::run(std::mem::replace(&mut self.folder, fresh))
    }

    fn run(folder: TempDir) -> Daemon {
        let begin = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_eventflux"))
            .arg("run")
            .arg(folder.path().join("app.toml"))
            .env("MALLOC_ARENA_MAX", "2")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (line, lines) = sync_channel(LINES_MAX);
        let errors = BufReader::new(child.stderr.take().expect("a pipe"));
        std::thread::spawn(move || {
            for text in errors.lines().map_while(Result::ok) {
                // What nobody reads any more is left out.
                let _ = line.try_send(text);
            }
        });
        let mut daemon = Daemon {
            child,
            lines,
            ready_after: Duration::ZERO,
            folder,
        };
        daemon.wait_for("ready after");
        daemon.ready_after = begin.elapsed();
        daemon
    }

    /// Waits for a line that contains `words`.
    pub(crate) fn wait_for(&self, words: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("in vain: a line with `{words}`"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Lets it alone for so long; it must not end.
    pub(crate) fn leave_alone(&self, span: Duration) {
        let end = Instant::now() + span;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(_line) => {}
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("the program has ended"),
            }
        }
    }

    /// Ends it in an orderly way, and gives what it has counted for each of `who`, in the order in
    /// which it tells.
    pub(crate) fn stop<const N: usize>(mut self, who: [&str; N]) -> [Counters; N] {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").arg(pid).status().expect("kill");
        assert!(told.success(), "it was there");
        let counters = who.map(|who| {
            let begin = format!("{who}: ");
            let line = self.wait_for(&begin);
            let (_, counters) = line.split_once(&begin).expect("as waited for");
            Counters(counters.to_owned())
        });
        self.child.wait().expect("it ends");
        counters
    }

    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// What its store takes on the disk.
    pub(crate) fn store_bytes(&self) -> u64 {
        let mut folders = vec![self.folder.path().join("store")];
        let mut bytes = 0;
        while let Some(next) = folders.pop() {
            // Files come and go.
            for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(known) if known.is_dir() => folders.push(entry.path()),
                    Ok(known) => bytes += known.len(),
                    Err(_) => {}
                }
            }
        }
        bytes
    }

    /// The time that all threads have had on a core.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).expect("it runs");
        let on_core = |task: std::io::Result<std::fs::DirEntry>| {
            let path = task.ok()?.path().join("schedstat");
            let text = std::fs::read_to_string(path).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.filter_map(on_core).sum())
    }

    /// A line of its status in KiB, such as `VmRSS`.
    pub(crate) fn status_kib(&self, name: &str) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let text = text.expect("it runs");
        let line = text.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.expect("a number of KiB")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was counted: `rows 12, rejected 3`.
pub(crate) struct Counters(String);

impl Counters {
    /// One of them; 0 when it is not there.
    pub(crate) fn get(&self, name: &str) -> u64 {
        let all = self.0.split(", ");
        let mut pairs = all.filter_map(|one| one.split_once(' '));
        let found = pairs.find(|(known, _)| *known == name);
        found.map_or(0, |(_, count)| count.trim().parse().expect("a count"))
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("the folder is ours");
}
