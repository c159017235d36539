//! A real mosquitto, a publisher that costs next to nothing, and the bare subscriber that others
//! are compared with.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS};
use tempfile::TempDir;

use crate::daemon::DEADLINE;
use crate::folder;
use crate::wait::wait_until;

/// A broker; ended when dropped.
pub(crate) struct Mosquitto {
    pub(crate) port: u16,
    child: Child,
    _folder: TempDir,
}

impl Mosquitto {
    /// A broker that forgets everything, and that drops nothing for a slow subscriber.
    pub(crate) fn start() -> Mosquitto {
        let folder = folder::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\n\
             log_dest none\nset_tcp_nodelay true\nmax_queued_messages 0\nmax_queued_bytes 0\n\
             max_inflight_messages 1000\n"
        );
        let path = folder.path().join("conf");
        std::fs::write(&path, config).expect("the folder is ours");
        let debian = Path::new("/usr/sbin/mosquitto");
        let program = if debian.exists() {
            debian
        } else {
            Path::new("mosquitto")
        };
        let child = Command::new(program)
            .arg("-c")
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed");
        wait_until("mosquitto listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        Mosquitto {
            port,
            child,
            _folder: folder,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes bytes that were put together beforehand.
pub(crate) struct Publisher(TcpStream);

impl Publisher {
    pub(crate) fn connect(broker: &Mosquitto) -> Publisher {
        let mut stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port)).expect("it listens");
        stream.set_nodelay(true).expect("a TCP stream");
        // CONNECT, MQTT 3.1.1, clean session, no keep-alive, client id `publisher`.
        let mut connect = vec![0x10, 10 + 2 + 9, 0, 4];
        connect.extend_from_slice(b"MQTT\x04\x02\x00\x00\x00\x09publisher");
        stream.write_all(&connect).expect("it listens");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("it answers");
        assert_eq!(answer, [0x20, 2, 0, 0], "the broker accepts us");
        let mut answers = stream.try_clone().expect("a TCP stream");
        // Acknowledgements are of no interest, but the broker must get rid of them.
        std::thread::spawn(move || {
            let mut bytes = [0; 65_536];
            while answers.read(&mut bytes).is_ok_and(|count| count > 0) {}
        });
        Publisher(stream)
    }

    pub(crate) fn write(&mut self, packets: &[u8]) {
        self.0.write_all(packets).expect("the broker reads");
    }
}

/// Appends a PUBLISH packet to `packets`: QoS 1 with an `id`, QoS 0 without.
pub(crate) fn put_publish(topic: &str, id: Option<u16>, payload: &[u8], packets: &mut Vec<u8>) {
    packets.push(if id.is_some() { 0x32 } else { 0x30 });
    let mut left = 2 + topic.len() + 2 * usize::from(id.is_some()) + payload.len();
    loop {
        let low = u8::try_from(left % 128).expect("below 128");
        left /= 128;
        packets.push(if left > 0 { low | 128 } else { low });
        if left == 0 {
            break;
        }
    }
    let length = u16::try_from(topic.len()).expect("a short topic");
    packets.extend_from_slice(&length.to_be_bytes());
    packets.extend_from_slice(topic.as_bytes());
    packets.extend(id.into_iter().flat_map(u16::to_be_bytes));
    packets.extend_from_slice(payload);
}

/// A bare subscriber: `rumqttc` with the settings of our source and nothing behind it.
pub(crate) struct Subscriber {
    runtime: tokio::runtime::Runtime,
    events: EventLoop,
    client: AsyncClient,
    /// What is to be acknowledged.
    pending: VecDeque<Publish>,
}

impl Subscriber {
    /// Subscribed when it returns.
    pub(crate) fn connect(broker: &Mosquitto, topic: &str, qos: QoS) -> Subscriber {
        let mut options = MqttOptions::new("bare", "127.0.0.1", broker.port);
        let packet_bytes_max = 256 << 20;
        options
            .set_manual_acks(true)
            .set_max_packet_size(packet_bytes_max, packet_bytes_max);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (client, events) = AsyncClient::new(options, 256);
        client.try_subscribe(topic, qos).expect("there is room");
        let mut subscriber = Subscriber {
            runtime,
            events,
            client,
            pending: VecDeque::new(),
        };
        subscriber.poll_until(DEADLINE, |event| {
            matches!(event, Event::Incoming(Packet::SubAck(_)))
        });
        subscriber
    }

    /// Takes what comes until `take` has enough; false when `within` is over before.
    pub(crate) fn receive(
        &mut self,
        within: Duration,
        mut take: impl FnMut(&Publish) -> bool,
    ) -> bool {
        self.poll_until(within, |event| match event {
            Event::Incoming(Packet::Publish(publish)) => take(publish),
            Event::Incoming(_) | Event::Outgoing(_) => false,
        })
    }

    fn poll_until(&mut self, within: Duration, mut is_enough: impl FnMut(&Event) -> bool) -> bool {
        let Subscriber {
            runtime,
            events,
            client,
            pending,
        } = self;
        let polling = async {
            loop {
                let event = events.poll().await.expect("the broker stays");
                if let Event::Incoming(Packet::Publish(publish)) = &event {
                    if publish.pkid != 0 {
                        pending.push_back(publish.clone());
                    }
                }
                while pending
                    .front()
                    .is_some_and(|first| client.try_ack(first).is_ok())
                {
                    pending.pop_front();
                }
                if is_enough(&event) {
                    return;
                }
            }
        };
        let polled = runtime.block_on(async { tokio::time::timeout(within, polling).await });
        polled.is_ok()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
        let events = &mut self.events;
        let farewell = async { while events.poll().await.is_ok() {} };
        let second = Duration::from_secs(1);
        let closed = async { tokio::time::timeout(second, farewell).await };
        let _ = self.runtime.block_on(closed);
    }
}
