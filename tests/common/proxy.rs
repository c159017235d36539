//! A link that a test can break: it carries bytes between two ends until it is told not to.

#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::wait::hang;

/// How soon a thread notices what it is told.
const NOTICED: Duration = Duration::from_millis(5);

/// A link; gone when dropped.
pub(crate) struct Link {
    /// Where it listens.
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Nothing passes, and nobody is told: as if every packet were lost.
    swallows: AtomicBool,
    gone: AtomicBool,
    connections: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// A link to a port of the loopback address.
    pub(crate) fn to(port: u16) -> Link {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let link = Link {
            port: listener.local_addr().unwrap().port(),
            shared: Arc::default(),
        };
        let shared = Arc::clone(&link.shared);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if shared.gone.load(Ordering::SeqCst) {
                    return;
                }
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
                    continue;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    from.set_nodelay(true).unwrap();
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || shared.carry(from, to));
                }
                shared.streams.lock().unwrap().extend([near, far]);
            }
        });
        link
    }

    /// From here on nothing passes, in either direction, of connections old and new.
    pub(crate) fn swallow(&self) {
        self.shared.swallows.store(true, Ordering::SeqCst);
    }

    /// What was sent meanwhile arrives, as far as those who sent it are still there.
    pub(crate) fn mend(&self) {
        self.shared.swallows.store(false, Ordering::SeqCst);
    }

    /// Ends the connections there are.
    pub(crate) fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        from.set_read_timeout(Some(NOTICED)).unwrap();
        let mut bytes = [0; 16_384];
        while !self.gone.load(Ordering::SeqCst) {
            if self.swallows.load(Ordering::SeqCst) {
                hang(NOTICED);
                continue;
            }
            match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    while self.swallows.load(Ordering::SeqCst) {
                        hang(NOTICED);
                    }
                    if to.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::SeqCst);
        self.mend();
        self.cut();
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}
