//! Stands between a client and a broker, understands packets as far as their kind, and cuts the
//! connection at a chosen one.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Packets by the upper half of their first byte.
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBREC: u8 = 5;
pub(crate) const PUBREL: u8 = 6;
pub(crate) const PUBCOMP: u8 = 7;

/// Where to cut, once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Packets of this kind count.
    pub(crate) kind: u8,
    /// Those to the client, or those from it.
    pub(crate) to_client: bool,
    /// How many of them pass before.
    pub(crate) after: u32,
    /// Whether the packet itself still passes.
    pub(crate) passes: bool,
}

/// A proxy with one cut to make.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: Arc<Mutex<Option<Cut>>>,
}

impl Proxy {
    pub(crate) fn start(broker: u16, cut: Cut) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(Some(cut)));
        let shared = Arc::clone(&cut);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)) else {
                    continue;
                };
                client.set_nodelay(true).unwrap();
                broker.set_nodelay(true).unwrap();
                pump(&client, &broker, false, &shared);
                pump(&broker, &client, true, &shared);
            }
        });
        Proxy { port, cut }
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.cut.lock().unwrap().is_none()
    }
}

fn pump(from: &TcpStream, to: &TcpStream, to_client: bool, cut: &Arc<Mutex<Option<Cut>>>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let cut = Arc::clone(cut);
    std::thread::spawn(move || {
        while let Ok(packet) = packet(&mut from) {
            let (passes, ends) = verdict(&cut, packet[0] >> 4, to_client);
            if passes && to.write_all(&packet).is_err() {
                break;
            }
            if ends {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// Whether the packet passes, and whether the connection ends with it.
fn verdict(cut: &Mutex<Option<Cut>>, kind: u8, to_client: bool) -> (bool, bool) {
    let mut cut = cut.lock().unwrap();
    match cut.as_mut() {
        Some(chosen) if chosen.kind == kind && chosen.to_client == to_client => {
            if chosen.after > 0 {
                chosen.after -= 1;
                return (true, false);
            }
            let passes = chosen.passes;
            *cut = None;
            (passes, true)
        }
        Some(_) | None => (true, false),
    }
}

fn packet(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut packet = vec![0; 2];
    from.read_exact(&mut packet)?;
    let (mut length, mut shift) = (usize::from(packet[1] & 127), 7);
    while packet[packet.len() - 1] & 128 != 0 {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 127) << shift;
        shift += 7;
        packet.push(byte[0]);
    }
    let head = packet.len();
    packet.resize(head + length, 0);
    from.read_exact(&mut packet[head..])?;
    Ok(packet)
}
