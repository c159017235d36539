//! What the program costs when it has nothing to do.

use std::time::Duration;

use crate::broker::{Mosquitto, Publisher, put_publish};
use crate::daemon::Daemon;
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
];

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
