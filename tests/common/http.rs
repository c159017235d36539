//! Both ends of HTTP as a test wants them: a server that does what it is told, and a client that
//! writes what it is told.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::wait;

/// What was asked, or answered.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
    /// Which connection, counted from 1.
    pub(crate) connection: usize,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The number in an answer's first line.
    pub(crate) fn status(&self) -> u16 {
        let word = self.line.split(' ').nth(1);
        word.and_then(|word| word.parse().ok()).unwrap_or_default()
    }

    /// Reads one; `None` at the end of the connection.
    pub(crate) fn read(from: &mut impl BufRead) -> std::io::Result<Option<Message>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut message = Message {
            line: line.trim_end().to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            at: Instant::now(),
            connection: 0,
        };
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            let pair = (name.to_owned(), value.trim().to_owned());
            message.headers.push(pair);
        }
        let length = message.header("content-length").unwrap_or("0");
        message.body = vec![0; length.parse().unwrap()];
        from.read_exact(&mut message.body)?;
        Ok(Some(message))
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers with this status line and headers, and a body.
    Say(String, Vec<u8>),
    /// The same, and closes the connection afterwards without having said so.
    SayAndClose(String),
    /// Closes the connection.
    Close,
    /// Does nothing for so long, and closes the connection then.
    Hang(Duration),
    /// Writes just this, and closes the connection.
    Cut(&'static str),
    /// Answers with a body without an end.
    Endless(&'static str),
}

/// An answer without a body to speak of.
pub(crate) fn say(status: &str) -> Act {
    Act::Say(status.to_owned(), b"ok".to_vec())
}

/// An answer with a body.
pub(crate) fn body(status: &str, body: &str) -> Act {
    Act::Say(status.to_owned(), body.as_bytes().to_vec())
}

/// A server; its thread ends with the test.
pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    pub(crate) requests: Receiver<Message>,
    acts: Arc<Mutex<VecDeque<Act>>>,
}

impl Server {
    /// A server that does one after the other; after the last it answers 204 for ever.
    pub(crate) fn new(acts: impl IntoIterator<Item = Act>) -> Server {
        Server::encrypted(acts, None)
    }

    pub(crate) fn encrypted(
        acts: impl IntoIterator<Item = Act>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let (to, requests) = sync_channel(10_000);
        let acts: Arc<Mutex<VecDeque<Act>>> = Arc::new(Mutex::new(acts.into_iter().collect()));
        let shared = Arc::clone(&acts);
        std::thread::spawn(move || {
            for (connection, stream) in (1..).zip(listener.incoming()) {
                let Ok(stream) = stream else { return };
                let _ = stream.set_nodelay(true);
                let (acts, to, tls) = (Arc::clone(&shared), to.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => drop(serve(stream, connection, &acts, &to)),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).unwrap();
                        let stream = rustls::StreamOwned::new(session, stream);
                        drop(serve(stream, connection, &acts, &to));
                    }
                });
            }
        });
        Server { at, requests, acts }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    /// What it is to do next, after all the rest.
    pub(crate) fn then(&self, act: Act) {
        self.acts.lock().unwrap().push_back(act);
    }

    /// The next request, as soon as it has come.
    pub(crate) fn next(&self) -> Message {
        self.requests
            .recv_timeout(wait::DEADLINE)
            .expect("a request")
    }

    /// All that have come and were not looked at.
    pub(crate) fn rest(&self) -> Vec<Message> {
        self.requests.try_iter().collect()
    }
}

fn serve(
    stream: impl Read + Write,
    connection: usize,
    acts: &Mutex<VecDeque<Act>>,
    to: &SyncSender<Message>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = Message::read(&mut reader)? {
        request.connection = connection;
        let act = acts.lock().unwrap().pop_front();
        let _ = to.send(request);
        let stream = reader.get_mut();
        match act {
            None => stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?,
            Some(Act::Say(status, body)) => {
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
                stream.write_all(&[head.as_bytes(), &body].concat())?;
            }
            Some(Act::SayAndClose(status)) => {
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                return stream.write_all(head.as_bytes());
            }
            Some(Act::Close) => return Ok(()),
            Some(Act::Hang(how_long)) => {
                wait::hang(how_long);
                return Ok(());
            }
            Some(Act::Cut(text)) => return stream.write_all(text.as_bytes()),
            Some(Act::Endless(status)) => {
                let head = format!("HTTP/1.1 {status}\r\n\r\n");
                stream.write_all(head.as_bytes())?;
                loop {
                    stream.write_all(&[b'x'; 65_536])?;
                }
            }
        }
    }
    Ok(())
}

/// A connection of a sender.
pub(crate) struct Sender {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Sender {
    pub(crate) fn new(at: SocketAddr) -> Sender {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(wait::DEADLINE)).unwrap();
        Sender {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Writes a request and does not wait.
    pub(crate) fn send(&mut self, line: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.write(&[head.as_bytes(), body].concat()).unwrap();
    }

    /// The next answer; `None` when the connection ends before.
    pub(crate) fn answer(&mut self) -> Option<Message> {
        Message::read(&mut self.stream).ok().flatten()
    }

    /// Whether the far side ends the connection without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }

    pub(crate) fn ask(&mut self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Message {
        self.send(line, headers, body);
        self.answer().expect("an answer")
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(at: SocketAddr, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Message {
    Sender::new(at).ask(line, headers, body)
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
