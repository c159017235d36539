//! The real binary in a folder of its own.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::mosquitto::{DEADLINE, wait_until};

/// A folder with a configuration, and a daemon that runs there or not.
pub(crate) struct Site {
    directory: tempfile::TempDir,
    child: Option<Child>,
    runs: usize,
    /// What its environment has besides ours.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Arguments behind the configuration.
    pub(crate) arguments: Vec<&'static str>,
}

impl Site {
    /// A site that runs `sql`; `toml` is appended to its configuration.
    pub(crate) fn new(sql: &str, toml: &str) -> Site {
        let site = Site {
            directory: tempfile::tempdir().unwrap(),
            child: None,
            runs: 0,
            environment: Vec::new(),
            arguments: Vec::new(),
        };
        site.configure(sql, toml);
        site
    }

    /// Another configuration for the next start.
    pub(crate) fn configure(&self, sql: &str, toml: &str) {
        let config = format!(
            "[application]\nname = \"test\"\nsql = \"app.sql\"\n[store]\npath = \"store\"\n{toml}\n"
        );
        std::fs::write(self.path("app.toml"), config).unwrap();
        std::fs::write(self.path("app.sql"), sql).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the daemon, and does not wait for anything.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none());
        self.runs += 1;
        let log = self.log_path(self.runs);
        self.child = Some(self.command(&log).spawn().unwrap());
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start(&mut self) {
        self.spawn();
        self.wait_for("ready after");
    }

    /// A second daemon on the same configuration: how it ends and what it says.
    pub(crate) fn run_another(&self) -> (Option<i32>, String) {
        let log = self.path("other.log");
        let mut child = self.command(&log).spawn().unwrap();
        let status = wait(&mut child, "the other daemon ends");
        (status.code(), std::fs::read_to_string(log).unwrap())
    }

    /// Starts the daemon, which is to end by itself: its exit code and what it says.
    pub(crate) fn run_to_end(&mut self) -> (Option<i32>, String) {
        self.spawn();
        let code = self.wait_end();
        (code, self.log())
    }

    /// Waits until this run has said `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.log().contains(text) {
            let status = self.child.as_mut().map(|child| child.try_wait().unwrap());
            let ended = status.is_none_or(|status| status.is_some());
            let late = Instant::now() >= end;
            assert!(
                !ended && !late || self.log().contains(text),
                "it never says '{text}':\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What this run has said so far.
    pub(crate) fn log(&self) -> String {
        read(&self.log_path(self.runs))
    }

    /// What all runs have said.
    pub(crate) fn logs(&self) -> impl Iterator<Item = String> + '_ {
        (1..=self.runs).map(|run| read(&self.log_path(run)))
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// As a power cut does, as far as the process is concerned.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end; the exit code.
    pub(crate) fn wait_end(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        wait(&mut child, "the daemon ends").code()
    }

    /// Stops it in order and gives what it said at last.
    pub(crate) fn stop(&mut self) -> String {
        self.signal("TERM");
        let code = self.wait_end();
        assert_eq!(code, Some(0), "{}", self.log());
        self.log()
    }

    /// Runs the daemon with its log in `log`.
    pub(crate) fn command(&self, log: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eventflux"));
        command
            .arg("run")
            .arg(self.path("app.toml"))
            .args(&self.arguments)
            .env("NO_COLOR", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log).unwrap());
        command
    }

    fn log_path(&self, run: usize) -> PathBuf {
        self.path(&format!("log.{run}"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let all: Vec<String> = self.logs().collect();
            let last = all.len().saturating_sub(3);
            eprintln!("the last runs said:\n{}", all[last..].join("\n--\n"));
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn wait(child: &mut Child, what: &str) -> ExitStatus {
    let mut status = None;
    wait_until(what, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}
