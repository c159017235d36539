//! Serial ports made of pseudo terminals: whole frames only, whatever happens on the line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pty.rs"]
mod pty;
#[path = "common/random.rs"]
mod random;
#[path = "common/wait.rs"]
mod wait;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::Receiver;
use eventflux::config::Definition;
use eventflux::config::options::{Layer, OptionKind, OptionSpec, OptionValue, Options};
use eventflux::decode::Reason;
use eventflux::event::{Field, OutputKey, Report, ReportKind, Schema, Seq, Timestamp, Type, Value};
use eventflux::framing::Framing;
use eventflux::report::Reporter;
use eventflux::serial::{self, OpenError, Role, Settings};
use eventflux::sink::{self, Confirmed, Delivery, Sink};
use eventflux::source::{self, Arrival, Dropped, INTAKE_OPTIONS, Source};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::daemon::Site;
use crate::pty::Device;
use crate::random::Random;
use crate::wait::{DEADLINE, wait_until};

fn schema() -> Schema {
    let name = "n".to_owned();
    Schema::new(vec![Field {
        name,
        ty: Type::Long,
    }])
}

/// `serial.baud=9600 framing=cobs`, as in SQL.
fn options(path: &Path, text: &str) -> Options {
    let mut options = Options::default();
    let port = format!("serial.port={}", path.display());
    let pairs = text.split_whitespace().chain([port.as_str()]);
    for (name, value) in pairs.map(|pair| pair.split_once('=').unwrap()) {
        let known = [
            source::serial::OPTIONS,
            sink::serial::OPTIONS,
            INTAKE_OPTIONS,
        ];
        if name == "error.strategy" {
            options.set(name, OptionValue::Text(value.to_owned()), Layer::Sql);
            continue;
        }
        let is_meant = |spec: &&OptionSpec| spec.name == name;
        let spec = known.into_iter().flatten().find(is_meant).expect(name);
        let value = match spec.kind {
            OptionKind::Text | OptionKind::Choice(_) => OptionValue::Text(value.to_owned()),
            OptionKind::Flag => OptionValue::Flag(value.parse().unwrap()),
            _ => OptionValue::Integer(value.parse().unwrap()),
        };
        options.set(name, value, Layer::Sql);
    }
    options
}

fn definition<'a>(options: &'a Options, schema: &'a Schema) -> Definition<'a> {
    Definition {
        stream: "S",
        extension: "serial",
        format: "json",
        options,
        schema,
        client_id: "",
    }
}

/// A runtime on a thread, as in the daemon.
struct Io {
    handle: tokio::runtime::Handle,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Io {
    fn new() -> Io {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || runtime.block_on(ended));
        Io { handle, _end: end }
    }
}

struct Reading {
    arrivals: Receiver<Arrival>,
    released: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    metrics: Arc<source::Metrics>,
    reports: mpsc::Receiver<Report>,
    task: JoinHandle<()>,
}

impl Reading {
    fn start(io: &Io, path: &Path, text: &str, capacity: usize) -> Reading {
        let source = Source::new(&definition(&options(path, text), &schema())).unwrap();
        let (to, arrivals) = crossbeam::channel::bounded(capacity);
        let (released, was_released) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let metrics = Arc::new(source::Metrics::default());
        let (reporter, reports) = Reporter::new();
        let context = source::Context {
            name: "Readings".to_owned(),
            source: 0,
            arrivals: to,
            released: was_released,
            tail: Vec::new(),
            stop: stopped,
            stop_within: Duration::from_secs(5),
            metrics: Arc::clone(&metrics),
            reporter,
        };
        let task = io.handle.spawn(source.run(context));
        Reading {
            arrivals,
            released,
            stop,
            metrics,
            reports,
            task,
        }
    }

    /// A source whose port is open.
    fn opened(io: &Io, device: &Device, text: &str) -> Reading {
        let reading = Reading::start(io, &device.path(), text, 1_000);
        reading.wait_open(1);
        reading
    }

    fn wait_open(&self, times: u64) {
        wait_until("the port is open", || {
            self.metrics.connected.load(Ordering::Relaxed)
                && self.metrics.connects.load(Ordering::Relaxed) >= times
        });
    }

    fn wait_lost(&self) {
        wait_until("the port is lost", || {
            !self.metrics.connected.load(Ordering::Relaxed)
        });
    }

    fn receive(&self, rows: &mut Vec<i64>, until: i64) {
        while rows.last() != Some(&until) {
            let arrival = self.arrivals.recv_timeout(DEADLINE);
            let arrival = arrival.unwrap_or_else(|_| panic!("no row {until} behind {rows:?}"));
            let all = arrival.rows.rows();
            rows.extend(all.iter().map(|row| row.values[0].as_int().unwrap()));
        }
    }

    fn stop(self, io: &Io) {
        self.released.send_replace(u64::MAX);
        self.stop.send_replace(true);
        io.handle
            .block_on(async { tokio::time::timeout(DEADLINE, self.task).await.unwrap() })
            .unwrap();
    }
}

const FRAMINGS: [&str; 6] = [
    "framing=line checksum=crc32 checksum.encoding=hex checksum.separator=*",
    "framing=cobs checksum=crc32",
    "framing=slip checksum=crc32",
    r"framing=length framing.sync=\xaa\x55 framing.max=200 checksum=crc32",
    "framing=delimiter framing.start=< framing.delimiter=> checksum=crc32 checksum.encoding=hex",
    "framing=fixed framing.size=24 framing.sync=# checksum=crc32",
];

fn frame(text: &str, n: i64) -> Vec<u8> {
    let framing = Framing::from_options(&options(Path::new("/x"), text)).unwrap();
    let mut frame = Vec::new();
    framing
        .frame(format!("{{\"n\":{n:>13}}}").as_bytes(), &mut frame)
        .unwrap();
    frame
}

#[test]
fn a_port_that_goes_within_a_message_costs_that_message_only() {
    let io = Io::new();
    for text in FRAMINGS {
        let length = frame(text, 2).len();
        let mut lines: Vec<(usize, Device, Reading)> = Vec::new();
        for cut in 0..=length {
            let device = Device::new();
            let reading = Reading::opened(&io, &device, text);
            lines.push((cut, device, reading));
        }
        for (cut, device, reading) in &mut lines {
            let cut_off = frame(text, 2)[..*cut].to_vec();
            device.say(&[frame(text, 0), frame(text, 1), cut_off].concat());
            let last = if *cut == length { 2 } else { 1 };
            reading.receive(&mut Vec::new(), last);
            device.unplug();
            reading.wait_lost();
            device.plug_in();
        }
        for (cut, device, reading) in &mut lines {
            reading.wait_open(2);
            let rest = frame(text, 2)[*cut..].to_vec();
            device.say(&[rest, frame(text, 3), frame(text, 4), frame(text, 5)].concat());
            let mut rows = Vec::new();
            reading.receive(&mut rows, 5);
            // Behind the cut the first may be taken for the rest of the one that was cut.
            // (The first byte of SLIP ends what was before, and the rest is whole.)
            let again = *cut <= 1 && rows == [2, 3, 4, 5];
            let is_whole = again || rows == [3, 4, 5] || rows == [4, 5];
            assert!(is_whole, "{text} cut at {cut}: {rows:?}");
            let dropped = reading.metrics.dropped(Dropped::Incomplete);
            assert!(dropped <= 1, "{text} cut at {cut}: {dropped}");
            let (downs, ups) = reports(reading);
            assert_eq!((downs, ups), (1, 2), "{text} cut at {cut}");
        }
        let dropped = |(_, _, reading): &(usize, Device, Reading)| {
            reading.metrics.dropped(Dropped::Incomplete)
        };
        // (What the kernel has not handed over when the port goes is known to nobody.)
        assert!(lines.iter().map(dropped).sum::<u64>() > 0, "{text}");
        for (_, _, reading) in lines {
            reading.stop(&io);
        }
    }
}

#[test]
fn what_came_before_a_message_that_fails_is_kept() {
    let io = Io::new();
    let mut device = Device::new();
    let reading = Reading::opened(&io, &device, "framing.first=keep error.strategy=fail");
    reading.released.send_replace(u64::MAX);
    device.say(b"{\"n\":1}\n{\"n\":2}\nno json\n{\"n\":3}\n");
    let mut rows = Vec::new();
    reading.receive(&mut rows, 2);
    assert_eq!(rows, [1, 2]);
    let ended = async { tokio::time::timeout(DEADLINE, reading.task).await.unwrap() };
    io.handle.block_on(ended).unwrap();
    assert!(reading.arrivals.try_recv().is_err());
}

fn reports(reading: &mut Reading) -> (usize, usize) {
    let (mut downs, mut ups) = (0, 0);
    while let Ok(report) = reading.reports.try_recv() {
        match report.kind {
            ReportKind::SourceDown => downs += 1,
            ReportKind::SourceUp => ups += 1,
            other => panic!("{other:?}"),
        }
    }
    (downs, ups)
}

/// Damages some frames; which came whole, and not behind damage.
fn damage(random: &mut Random, frames: &mut [Vec<u8>]) -> BTreeSet<usize> {
    let mut hurt = BTreeSet::new();
    for (index, frame) in frames.iter_mut().enumerate() {
        let at = random.index(frame.len());
        match random.below(12) {
            0 => frame[at] ^= 1 << random.below(8),
            1 => drop(frame.remove(at)),
            2 => drop(frame.drain(at..)),
            3 => frame.insert(at, u8::try_from(random.below(256)).unwrap()),
            4 => {
                let noise = (0..random.below(90)).map(|_| u8::try_from(random.below(256)).unwrap());
                let noise: Vec<u8> = noise.collect();
                frame.splice(at..at, noise);
            }
            _ => continue,
        }
        hurt.insert(index);
    }
    (0..frames.len())
        .filter(|index| !hurt.contains(index) && (*index == 0 || !hurt.contains(&(index - 1))))
        .collect()
}

#[test]
fn a_bad_line_makes_no_row_up_and_loses_no_whole_one() {
    const FRAMES: i64 = 400;
    let io = Io::new();
    let mut random = Random::new(20_261_121);
    for text in FRAMINGS {
        let mut device = Device::new();
        let reading = Reading::opened(&io, &device, text);
        let mut frames: Vec<Vec<u8>> = (1..=FRAMES).map(|n| frame(text, n)).collect();
        let good = damage(&mut random, &mut frames);
        // The first one may be the rest of one, as far as the source knows.
        let begin = frame(text, 0);
        let end: Vec<u8> = (FRAMES + 1..FRAMES + 12)
            .flat_map(|n| frame(text, n))
            .collect();
        let bytes = [begin, frames.concat(), end].concat();
        let mut rest = bytes.as_slice();
        let mut rows = Vec::new();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + random.index(100)));
            device.say(now);
            rest = later;
        }
        reading.receive(&mut rows, FRAMES + 11);
        assert!(
            rows.windows(2).all(|pair| pair[0] < pair[1]),
            "{text}: {rows:?}"
        );
        let missing = |index: &&usize| !rows.contains(&(i64::try_from(**index).unwrap() + 1));
        // A length that was damaged, or a sync word in the noise, hides what comes behind it until
        // it is seen to be wrong: then it comes, as the checksum of what hid it is wrong.
        let missing: Vec<&usize> = good.iter().filter(missing).collect();
        assert!(missing.is_empty(), "{text}: {missing:?} of {}", good.len());
        assert!(reading.metrics.rejected(Reason::Malformed) > 0, "{text}");
        reading.stop(&io);
    }
}

#[test]
fn a_pipeline_that_stands_costs_whole_messages_that_are_counted() {
    let io = Io::new();
    let mut device = Device::new();
    let text = "framing=line queue.bytes_max=2000 queue.batch_rows_max=1";
    let reading = Reading::start(&io, &device.path(), text, 1);
    reading.wait_open(1);
    let line = |n: i64| format!("{{\"n\":{n}}}\n");
    let lines: String = (0..500).map(line).collect();
    device.say(lines.as_bytes());
    let dropped = || reading.metrics.dropped(Dropped::QueueFull);
    let made = || reading.metrics.rows.load(Ordering::Relaxed);
    wait_until("all is read", || dropped() + made() == 499);
    assert!(dropped() > 100, "{}", dropped());
    let mut rows = Vec::new();
    let last = i64::try_from(made()).unwrap();
    reading.receive(&mut rows, last);
    assert_eq!(rows, (1..=last).collect::<Vec<i64>>());
    device.say(line(1_000).as_bytes());
    reading.receive(&mut rows, 1_000);
    reading.stop(&io);
}

#[test]
fn a_device_is_made_to_talk_and_its_first_words_are_passed_over() {
    let io = Io::new();
    let mut device = Device::new();
    let text = r"serial.init=GO\r framing.first=keep serial.settle=200";
    let reading = Reading::opened(&io, &device, text);
    assert_eq!(device.hear(3), b"GO\r");
    device.say(b"{\"n\":1}\n");
    let mut rows = Vec::new();
    let mut n = 2;
    // Somewhere here the time is over.
    while rows.is_empty() {
        device.say(format!("{{\"n\":{n}}}\n").as_bytes());
        n += 1;
        if let Ok(arrival) = reading.arrivals.recv_timeout(Duration::from_millis(20)) {
            rows.extend(
                arrival
                    .rows
                    .rows()
                    .iter()
                    .map(|row| row.values[0].as_int().unwrap()),
            );
        }
    }
    assert!(rows[0] > 1, "{rows:?}");
    reading.stop(&io);
}

#[test]
fn a_pause_ends_a_message() {
    let io = Io::new();
    let mut device = Device::new();
    let text = "framing=idle framing.idle=50 checksum=crc16_modbus";
    let reading = Reading::opened(&io, &device, text);
    let mut rows = Vec::new();
    let mut n = 0;
    // What is said right after the opening may be the rest of a message.
    while rows.is_empty() {
        n += 1;
        device.say(&frame(text, n));
        if let Ok(arrival) = reading.arrivals.recv_timeout(Duration::from_millis(300)) {
            rows.extend(
                arrival
                    .rows
                    .rows()
                    .iter()
                    .map(|row| row.values[0].as_int().unwrap()),
            );
        }
    }
    assert_eq!(rows, [n]);
    reading.stop(&io);
}

struct Writing {
    to: mpsc::Sender<Delivery>,
    confirmed: Receiver<Confirmed>,
    stop: watch::Sender<bool>,
    metrics: Arc<sink::Metrics>,
    task: JoinHandle<()>,
    _settled: watch::Sender<OutputKey>,
}

fn key(number: u64) -> OutputKey {
    OutputKey {
        seq: Seq(number),
        ..OutputKey::default()
    }
}

impl Writing {
    fn start(io: &Io, path: &Path, text: &str) -> Writing {
        let sink = Sink::new(&definition(&options(path, text), &schema())).unwrap();
        let (to, deliveries) = mpsc::channel(100);
        let (confirm, confirmed) = crossbeam::channel::bounded(4);
        let (settled, is_settled) = watch::channel(OutputKey::default());
        let (stop, stopped) = watch::channel(false);
        let metrics = Arc::new(sink::Metrics::default());
        let context = sink::Context {
            name: "Commands".to_owned(),
            sink: 0,
            deliveries: deliveries.into(),
            settled: is_settled,
            confirmed: confirm,
            stop: stopped,
            stop_within: Duration::from_secs(2),
            metrics: Arc::clone(&metrics),
            reporter: Reporter::default(),
        };
        let task = io.handle.spawn(sink.run(context));
        Writing {
            to,
            confirmed,
            stop,
            metrics,
            task,
            _settled: settled,
        }
    }

    fn send(&self, number: u64) {
        let delivery = Delivery {
            key: key(number),
            id: number.to_string(),
            time: Timestamp(0),
            made: Timestamp(0),
            schema: Arc::new(schema()),
            row: vec![Value::Int(i64::try_from(number).unwrap())],
            held: eventflux::held::Held::default(),
        };
        self.to.blocking_send(delivery).unwrap();
    }

    fn next_confirmed(&self) -> Confirmed {
        self.confirmed.recv_timeout(DEADLINE).unwrap()
    }

    fn stop(self, io: &Io) {
        self.stop.send_replace(true);
        io.handle
            .block_on(async { tokio::time::timeout(DEADLINE, self.task).await.unwrap() })
            .unwrap();
    }
}

#[test]
fn commands_and_answers_share_a_port_through_an_unplugging() {
    let io = Io::new();
    let mut device = Device::new();
    let text = "serial.baud=19200 framing=line framing.first=keep";
    let reading = Reading::opened(&io, &device, text);
    let writing = Writing::start(&io, &device.path(), &format!("{text} framing.ending=crlf"));
    let mut rows = Vec::new();
    for number in 1..=3 {
        writing.send(number);
        assert_eq!(device.hear_line(), format!("{{\"n\":{number}}}\r\n"));
        assert_eq!(writing.next_confirmed().key, key(number));
        device.say(format!("{{\"n\":{number}0}}\r\n").as_bytes());
        reading.receive(&mut rows, i64::try_from(number * 10).unwrap());
    }
    // Both let go of it, so that both have it again.
    device.unplug();
    reading.wait_lost();
    wait_until("the sink has noticed", || {
        !writing.metrics.connected.load(Ordering::Relaxed)
    });
    writing.send(4);
    device.plug_in();
    assert_eq!(device.hear_line(), "{\"n\":4}\r\n");
    assert_eq!(writing.next_confirmed().key, key(4));
    reading.wait_open(2);
    device.say(b"{\"n\":40}\n");
    reading.receive(&mut rows, 40);
    assert_eq!(rows, [10, 20, 30, 40]);
    reading.stop(&io);
    // The one that stays keeps it.
    writing.send(5);
    assert_eq!(device.hear_line(), "{\"n\":5}\r\n");
    writing.stop(&io);
}

#[test]
fn what_cannot_be_a_frame_is_refused_and_holds_nothing_up() {
    let io = Io::new();
    let mut device = Device::new();
    let text = "framing=delimiter framing.delimiter=7";
    let writing = Writing::start(&io, &device.path(), text);
    for number in [6, 7, 8] {
        writing.send(number);
    }
    assert_eq!(device.hear(16), b"{\"n\":6}7{\"n\":8}7");
    let mut refused = Vec::new();
    loop {
        let confirmed = writing.next_confirmed();
        if let Some(refused_now) = confirmed.refused {
            refused.push((confirmed.key, refused_now.why));
        } else if confirmed.key == key(8) {
            break;
        }
    }
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0, key(7));
    assert!(
        refused[0].1.contains("what ends a frame stands within it"),
        "{}",
        refused[0].1
    );
    writing.stop(&io);
}

#[test]
fn a_port_has_one_reader_one_writer_and_one_setting() {
    let io = Io::new();
    let mut device = Device::new();
    io.handle.block_on(async {
        let address = device.path().display().to_string().parse().unwrap();
        let slow = Settings::plain(9600);
        let reader = serial::open(&address, slow, Role::Reader).await.unwrap();
        let error = |opened: Result<serial::Port, OpenError>| opened.err().unwrap().to_string();
        let second = error(serial::open(&address, slow, Role::Reader).await);
        assert!(
            second.ends_with("another stream reads it already"),
            "{second}"
        );
        let fast = Settings::plain(115_200);
        let other = error(serial::open(&address, fast, Role::Writer).await);
        let said = "another stream has opened it with 9600 baud, 8N1, this one asks for 115200 \
                    baud, 8N1";
        assert!(other.ends_with(said), "{other}");
        let mut writer = serial::open(&address, slow, Role::Writer).await.unwrap();
        assert_eq!(writer.path(), reader.path());

        device.unplug();
        let mut buffer = [0; 8];
        let lost = reader.read(&mut buffer).await;
        assert!(lost.is_err(), "{lost:?}");
        tokio::time::timeout(DEADLINE, writer.lost()).await.unwrap();
        drop((reader, writer));
        assert!(error(serial::open(&address, slow, Role::Reader).await).contains("No such file"));
        device.plug_in();
        drop(serial::open(&address, fast, Role::Reader).await.unwrap());

        let file = tempfile::NamedTempFile::new().unwrap();
        let address = file.path().display().to_string().parse().unwrap();
        let no_port = error(serial::open(&address, slow, Role::Reader).await);
        assert!(no_port.ends_with("is not a serial port"), "{no_port}");
    });
}

/// A device that says the same things again and again, and what the probe makes of it.
fn probe(says: &[Vec<u8>]) -> (Option<i32>, String, String) {
    let mut device = Device::new();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_eventflux"))
        .args(["serial", "probe", "--baud", "9600", "--seconds", "1"])
        .arg(device.path())
        .stdout(file("out.sql"))
        .stderr(file("err"))
        .spawn()
        .unwrap();
    let mut status = None;
    let mut turn = says.iter().cycle();
    wait_until("the probe ends", || {
        if let Some(words) = turn.next() {
            device.say(words);
        }
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let code = status.unwrap().code();
    if code == Some(0) {
        let checked = Command::new(env!("CARGO_BIN_EXE_eventflux"))
            .arg("check")
            .arg(folder.path().join("out.sql"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{}{said}", read("out.sql"));
    }
    let shown = read("out.sql").replace(&device.path().display().to_string(), "DEVICE");
    (code, shown, read("err"))
}

#[test]
fn a_probe_prints_a_stream_that_reads_what_it_heard() {
    let cobs = "framing=cobs checksum=crc16_xmodem";
    let lines = |texts: &[&str]| -> Vec<Vec<u8>> {
        texts
            .iter()
            .map(|text| format!("{text}\r\n").into_bytes())
            .collect()
    };
    let table: Vec<(Vec<Vec<u8>>, &[&str])> = vec![
        (
            lines(&["{\"t\":21.5,\"order\":1}", "{\"t\":3,\"order\":2}"]),
            &[
                "(\"order\" BIGINT, \"t\" DOUBLE)",
                "'format' = 'json'",
                "'framing' = 'line'",
            ],
        ),
        (
            lines(&["$GPGLL,5300.97914,N,00259.98174,E,125926,A*28"]),
            &[
                "\"latitude\" DOUBLE",
                "'format' = 'nmea'",
                "'framing' = 'nmea'",
            ],
        ),
        (
            lines(&["1;2.5;on", "2;2;off"]),
            &[
                "(\"c1\" BIGINT, \"c2\" DOUBLE, \"c3\" STRING)",
                "'csv.delimiter' = ';'",
            ],
        ),
        (
            lines(&["ready.", "it's 21 degrees"]),
            &["(\"line\" STRING)", "'format' = 'text'"],
        ),
        (
            (0..20).map(|n| frame(cobs, n)).collect(),
            &[
                "'framing' = 'cobs'",
                "'checksum' = 'crc16_xmodem'",
                "'checksum.order' = 'big'",
            ],
        ),
    ];
    for (says, parts) in table {
        let (code, out, err) = probe(&says);
        assert_eq!(code, Some(0), "{err}");
        for part in parts
            .iter()
            .chain(&["'serial.port' = 'DEVICE'", "'serial.baud' = '9600'"])
        {
            assert!(out.contains(part), "{part} in {out}");
        }
    }
    let (code, out, err) = probe(&[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("nothing came: does the device talk by itself?"),
        "{err}"
    );
}

#[test]
fn the_daemon_answers_a_device_through_restarts_and_unpluggings() {
    let mut device = Device::new();
    let sql = "CREATE STREAM Readings (n BIGINT) WITH ('type'='source', 'extension'='serial', \
               'format'='json', 'framing.first'='keep');\n\
               CREATE STREAM Commands (m BIGINT) WITH ('type'='sink', 'extension'='serial', \
               'format'='json');\n\
               INSERT INTO Commands SELECT n * 2 AS m FROM Readings;\n";
    let port = device.path().display().to_string();
    let toml = format!(
        "[streams.Readings]\n\"serial.port\" = \"{port}\"\n\"serial.baud\" = 9600\n\
         [streams.Commands]\n\"serial.port\" = \"{port}\"\n\"serial.baud\" = 9600\n"
    );
    let mut site = Site::new(sql, &toml);
    let ask = |site: &mut Site, device: &mut Device, opened: usize, n: i64| {
        wait_until("the port is open", || {
            site.log().matches("opened, 9600 baud").count() == opened
        });
        device.say(format!("{{\"n\":{n}}}\n").as_bytes());
        let answer = |n: i64| format!("{{\"m\":{}}}\n", n * 2);
        let mut heard = device.hear_line();
        // What was written and not yet said to be delivered is written again after a kill.
        if heard == answer(n - 1) {
            heard = device.hear_line();
        }
        assert_eq!(heard, answer(n));
    };
    site.start();
    ask(&mut site, &mut device, 1, 21);
    device.unplug();
    site.wait_for("no serial port");
    device.plug_in();
    ask(&mut site, &mut device, 2, 22);
    site.stop();
    site.start();
    ask(&mut site, &mut device, 1, 23);
    site.kill();
    site.start();
    ask(&mut site, &mut device, 1, 24);
    let log = site.stop();
    assert!(!log.contains("ERROR"), "{log}");
}
