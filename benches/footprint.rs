//! What the program costs when it has nothing to do.

use std::time::{Duration, Instant};

use crate::broker::{Mosquitto, Publisher, put_publish};
use crate::daemon::{DEADLINE, Daemon};
use crate::figure::{Figure, Measured};
use crate::folder;

const QUICKSTART: &str = include_str!("../config/quickstart.sql");
/// Checkpoints come early, so that the last one is over when the measuring begins.
const SETTINGS: &str = "[checkpoint]\ninterval = \"1 s\"";
/// Longer than the windows, the checkpoints and the store's housekeeping (10 s).
const SETTLE: Duration = Duration::from_secs(22);
const WATCH: Duration = Duration::from_secs(10);
const STARTS: usize = 9;

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "UP",
        what: "start to ready, empty store",
        budget: "<= 50 ms",
        measure: Some(start),
    },
    Figure {
        name: "RSS",
        what: "resident memory when idle",
        budget: "<= 10 MiB",
        measure: Some(resident),
    },
    Figure {
        name: "IDLE",
        what: "CPU when idle, writes when idle",
        budget: "<= 0.2% of a core, none",
        measure: Some(idle),
    },
    Figure {
        name: "RSSF",
        what: "resident memory, 5,000 events/s",
        budget: "<= 14 MiB, not growing",
        measure: Some(loaded),
    },
    Figure {
        name: "RSSR",
        what: "more resident after a restart with 64 MiB",
        budget: "<= 8 MiB",
        measure: Some(again),
    },
];

/// A filter that lets one in ten pass.
const FILTER: &str = "
CREATE STREAM Readings (sensor STRING, temperature DOUBLE, text STRING) WITH ('type' = 'source',
  'extension' = 'mqtt', 'format' = 'json', 'mqtt.topic' = 'in');
CREATE STREAM Hot (sensor STRING, temperature DOUBLE) WITH ('type' = 'sink', 'extension' = 'mqtt',
  'format' = 'json', 'mqtt.topic' = 'out');
INSERT INTO Hot SELECT sensor, temperature FROM Readings WHERE temperature >= 90;
";
/// All that comes waits for a far side that is not there.
const HELD: &str = "
CREATE STREAM Readings (sensor STRING, temperature DOUBLE, text STRING) WITH ('type' = 'source',
  'extension' = 'mqtt', 'format' = 'json', 'mqtt.topic' = 'in');
CREATE STREAM Away (sensor STRING, temperature DOUBLE, text STRING) WITH ('type' = 'sink',
  'extension' = 'http', 'format' = 'json', 'http.url' = 'http://127.0.0.1:9/',
  'outbox.bytes_max' = '64 MiB');
INSERT INTO Away SELECT sensor, temperature, text FROM Readings;
";
/// How long the filter works, in seconds; an hour is the budget's.
const LOAD_S: &str = "EVENTFLUX_LOAD_S";
const LOAD_S_DEFAULT: u64 = 120;
/// Some 5,000 events in a second.
const PULSE: Duration = Duration::from_millis(20);
const PULSE_EVENTS: u32 = 100;
/// What the store takes when the outbox is full.
const BACKLOG_BYTES: u64 = 80 << 20;

/// So many readings; the text is such that no packer makes it small.
fn readings(from: u32, count: u32, text_bytes: u32, packets: &mut Vec<u8>) {
    packets.clear();
    for number in from..from.saturating_add(count) {
        let mut state = u64::from(number) << 1 | 1;
        let letters = (0..text_bytes).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b"0123456789abcdef"[usize::try_from(state >> 60).expect("four bits")])
        });
        let text: String = letters.collect();
        let temperature = number % 100;
        let reading = format!(
            "{{\"sensor\":\"s{}\",\"temperature\":{temperature},\"text\":\"{text}\"}}",
            number % 1_000
        );
        put_publish("in", None, reading.as_bytes(), packets);
    }
}

fn loaded() -> Measured {
    let seconds = std::env::var(LOAD_S)
        .ok()
        .and_then(|text| text.parse().ok());
    let span = Duration::from_secs(seconds.unwrap_or(LOAD_S_DEFAULT));
    let broker = Mosquitto::start();
    let daemon = Daemon::start(FILTER, &broker.url(), "");
    daemon.wait_for("connected to the broker");
    let mut publisher = Publisher::connect(&broker);
    let begin = Instant::now();
    let (mut number, mut packets, mut early) = (0, Vec::new(), None);
    while begin.elapsed() < span {
        readings(number, PULSE_EVENTS, 0, &mut packets);
        number = number.wrapping_add(PULSE_EVENTS);
        publisher.write(&packets);
        if early.is_none() && begin.elapsed() > span / 3 {
            early = Some(daemon.status_kib("VmRSS") / 1024.0);
        }
        let next = begin + PULSE * (number / PULSE_EVENTS);
        daemon.leave_alone(next.saturating_duration_since(Instant::now()));
    }
    let resident = daemon.status_kib("VmRSS") / 1024.0;
    let early = early.unwrap_or(resident);
    Measured {
        value: resident,
        met: resident <= 14.0 && resident <= early * 1.03,
        details: vec![
            ("MiB after a third", early),
            ("MiB of its own", daemon.status_kib("RssAnon") / 1024.0),
            ("s in all", span.as_secs_f64()),
        ],
    }
}

fn again() -> Measured {
    let broker = Mosquitto::start();
    let settled = |daemon: &Daemon| {
        daemon.wait_for("connected to the broker");
        daemon.leave_alone(Duration::from_secs(2));
        daemon.status_kib("VmRSS") / 1024.0
    };
    let idle = settled(&Daemon::start(HELD, &broker.url(), ""));
    let daemon = Daemon::start(HELD, &broker.url(), "");
    daemon.wait_for("connected to the broker");
    let mut publisher = Publisher::connect(&broker);
    let (mut number, mut packets) = (0, Vec::new());
    let end = Instant::now() + DEADLINE * 2;
    while daemon.store_bytes() < BACKLOG_BYTES {
        assert!(Instant::now() < end, "the backlog does not come together");
        readings(number, PULSE_EVENTS, 1_000, &mut packets);
        number = number.wrapping_add(PULSE_EVENTS);
        publisher.write(&packets);
    }
    let daemon = daemon.start_again();
    let resident = settled(&daemon);
    Measured {
        value: resident - idle,
        met: resident - idle <= 8.0,
        details: vec![
            ("MiB resident", resident),
            ("MiB at the highest", daemon.status_kib("VmHWM") / 1024.0),
            ("s to ready", daemon.ready_after.as_secs_f64()),
        ],
    }
}

fn start() -> Measured {
    let broker = Mosquitto::start();
    let start = |_| Daemon::start(QUICKSTART, &broker.url(), "").ready_after;
    let mut all: Vec<Duration> = (0..STARTS).map(start).collect();
    all.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let median = ms(all[STARTS / 2]);
    Measured {
        value: median,
        met: median <= 50.0,
        details: vec![("ms, best", ms(all[0])), ("ms, worst", ms(all[STARTS - 1]))],
    }
}

fn resident() -> Measured {
    let broker = Mosquitto::start();
    let daemon = Daemon::start(QUICKSTART, &broker.url(), "");
    daemon.wait_for("connected to the broker");
    daemon.leave_alone(Duration::from_secs(2));
    let mib = |name| daemon.status_kib(name) / 1024.0;
    let resident = mib("VmRSS");
    Measured {
        value: resident,
        met: resident <= 10.0,
        details: vec![
            ("MiB of its own", mib("RssAnon")),
            ("MiB of files", mib("RssFile")),
            ("MiB at the highest", mib("VmHWM")),
        ],
    }
}

fn idle() -> Measured {
    let broker = Mosquitto::start();
    let daemon = Daemon::start(QUICKSTART, &broker.url(), SETTINGS);
    daemon.wait_for("connected to the broker");
    let mut packets = Vec::new();
    for number in 0..1_000 {
        let reading = format!(
            "{{\"device\":\"d{}\",\"temperature\":{},\"humidity\":40}}",
            number % 10,
            20 + number % 70
        );
        put_publish("plant/a/climate", None, reading.as_bytes(), &mut packets);
    }
    Publisher::connect(&broker).write(&packets);
    daemon.leave_alone(SETTLE);
    let (cpu, written) = (daemon.cpu(), folder::written_bytes(&daemon.id()));
    daemon.leave_alone(WATCH);
    let cpu = (daemon.cpu() - cpu).as_secs_f64();
    let share = cpu / WATCH.as_secs_f64() * 100.0;
    let written = folder::written_bytes(&daemon.id()) - written;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let written_bytes = written as f64;
    Measured {
        value: share,
        met: share <= 0.2 && written == 0,
        details: vec![
            ("% of a core", share),
            ("bytes written in 10 s", written_bytes),
            ("MiB resident then", daemon.status_kib("VmRSS") / 1024.0),
        ],
    }
}
