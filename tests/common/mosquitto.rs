//! A real mosquitto on a free port of the loopback address, and its two command line clients.

#![allow(dead_code, reason = "each test program uses its part")]

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub(crate) use crate::wait::{DEADLINE, wait_until};

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A broker; ended when dropped.
pub(crate) struct Mosquitto {
    /// Where it listens.
    pub(crate) port: u16,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

impl Mosquitto {
    /// A running broker that keeps sessions on disk; `extra` is appended to its configuration.
    pub(crate) fn start_with(extra: &str) -> Mosquitto {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = directory.path().display();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
             persistence_location {path}/\nlog_dest file {path}/log\nlog_type all\n\
             max_queued_messages 0\nset_tcp_nodelay true\n{extra}\n"
        );
        std::fs::write(directory.path().join("conf"), config).unwrap();
        let mut mosquitto = Mosquitto {
            port,
            directory,
            child: None,
        };
        mosquitto.start();
        mosquitto
    }

    pub(crate) fn new() -> Mosquitto {
        Mosquitto::start_with("")
    }

    /// Starts it again, with what it has on disk.
    pub(crate) fn start(&mut self) {
        let mut command = Command::new(program("mosquitto"));
        command.arg("-c").arg(self.directory.path().join("conf"));
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("mosquitto is installed"));
        wait_until("mosquitto listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        });
    }

    /// Ends it in an orderly way: it writes its sessions to disk.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = child.id().to_string();
            let killed = Command::new("kill").arg(pid).status().unwrap();
            assert!(killed.success());
            child.wait().unwrap();
        }
    }

    /// Sends a signal, such as `STOP`: one that is there and does not answer.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Has one that is stopped lose what it kept.
    pub(crate) fn forget(&self) {
        assert!(self.child.is_none());
        std::fs::remove_file(self.directory.path().join("mosquitto.db")).unwrap();
    }

    /// The URL for `mqtt.broker`.
    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Publishes each line as a message, and returns when the broker has them all.
    pub(crate) fn publish(&self, topic: &str, qos: u8, lines: &[String]) {
        let text = lines
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect::<String>();
        self.publish_from_stdin(topic, qos, "-l", text.as_bytes());
    }

    /// Publishes one message of any bytes.
    pub(crate) fn publish_bytes(&self, topic: &str, payload: &[u8]) {
        let how = if payload.is_empty() { "-n" } else { "-s" };
        self.publish_from_stdin(topic, 1, how, payload);
    }

    fn publish_from_stdin(&self, topic: &str, qos: u8, how: &str, input: &[u8]) {
        let mut child = Command::new(program("mosquitto_pub"))
            .args([
                "-p",
                &self.port.to_string(),
                "-t",
                topic,
                "-q",
                &qos.to_string(),
                how,
            ])
            .stdin(Stdio::piped())
            .spawn()
            .expect("mosquitto_pub is installed");
        // With `-n` it does not read.
        let _ = child.stdin.take().unwrap().write_all(input);
        assert!(child.wait().unwrap().success());
    }

    /// Makes a session that collects what is published to `topic`, for [`Mosquitto::collect`].
    pub(crate) fn open_mailbox(&self, topic: &str) {
        let args = [
            "-E", "-c", "-i", "mailbox", "-q", "1", "-t", topic, "-x", "1000",
        ];
        self.subscriber(&args)
            .status()
            .map(|status| assert!(status.success()))
            .unwrap();
    }

    /// Takes `count` messages out of the mailbox, each in the form `format`.
    pub(crate) fn collect(&self, topic: &str, count: usize, format: &str) -> Vec<String> {
        let (count, limit) = (count.to_string(), DEADLINE.as_secs().to_string());
        let args = [
            "-c", "-i", "mailbox", "-q", "1", "-t", topic, "-x", "1000", "-C", &count, "-W",
            &limit, "-F", format,
        ];
        let output = self.subscriber(&args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn subscriber(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("mosquitto_sub"));
        command
            .args(["-V", "5", "-p", &self.port.to_string()])
            .args(args);
        command
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// In `PATH`, or where Debian puts daemons.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push(PathBuf::from("/usr/sbin"));
    let mut files = folders.into_iter().map(|folder| folder.join(name));
    files
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}
