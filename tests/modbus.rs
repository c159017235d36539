//! The daemon as a Modbus master, and devices on a pseudo terminal that answer as real ones do:
//! late, wrongly, with exceptions, or not at all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pty.rs"]
mod pty;
#[path = "common/wait.rs"]
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use daemon::Site;
use pty::Device;
use wait::wait_until;

/// CRC-16/MODBUS, bit by bit, as the specification of the serial line has it.
fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xFFFF_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xA001 } else { 0 };
        }
    }
    crc.to_le_bytes()
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(crc(&bytes));
    bytes
}

/// What a device holds: register `n` has the value `n * 3 + unit`, coil `n` is on when `n` is odd.
fn answer(request: &[u8]) -> Vec<u8> {
    let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
    let (unit, function, first, count) = (request[0], request[1], word(2), word(4));
    assert_eq!(crc(&request[..6]), request[6..8], "a whole request");
    let mut data = Vec::new();
    match function {
        1 | 2 => {
            let on = |number: u16| u8::from(number % 2 == 1);
            for byte in 0..count.div_ceil(8) {
                let bits = (0..8).map(|bit| on(first + byte * 8 + bit) << bit);
                data.push(bits.sum());
            }
        }
        3 | 4 => {
            for number in first..first + count {
                data.extend((number * 3 + u16::from(unit)).to_be_bytes());
            }
        }
        other => panic!("nobody asked for function {other}"),
    }
    let mut bytes = vec![unit, function, u8::try_from(data.len()).unwrap()];
    bytes.extend(data);
    sealed(bytes)
}

/// Devices on one line, until it is told to stop.
struct Bus {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Device>>,
}

impl Bus {
    /// `behave` makes what is sent of a right answer; it is told how often the unit was asked.
    fn start(
        mut device: Device,
        mut behave: impl FnMut(u8, usize, Vec<u8>) -> Vec<u8> + Send + 'static,
    ) -> Bus {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut heard = Vec::new();
            let mut asked = [0; 256];
            while !stopped.load(Ordering::SeqCst) {
                heard.extend(device.hear_now(8 - heard.len()));
                if heard.len() == 8 {
                    let unit = heard[0];
                    asked[usize::from(unit)] += 1;
                    let count = asked[usize::from(unit)];
                    let bytes = behave(unit, count, answer(&heard));
                    heard.clear();
                    if !bytes.is_empty() {
                        device.say(&bytes);
                    }
                }
            }
            device
        });
        Bus {
            stop,
            thread: Some(thread),
        }
    }

    fn stop(mut self) -> Device {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// A source `S` with these columns and options, whose rows go to the file `rows`.
fn site(device: &Device, columns: &str, options: &str) -> Site {
    let sql = format!(
        "CREATE STREAM S ({columns}) WITH ('type' = 'source', 'extension' = 'modbus', \
           'serial.port' = '{}', 'serial.exclusive' = 'false', 'modbus.interval' = '20 ms', \
           'modbus.timeout' = '150 ms', {options});\n\
         CREATE STREAM Rows ({columns}) WITH ('type' = 'sink', 'extension' = 'file', \
           'file.path' = 'rows');\n\
         INSERT INTO Rows SELECT * FROM S;\n",
        device.path().display()
    );
    let mut site = Site::new(&sql, "");
    let path = site.path("rows");
    let sql = sql.replace("'rows'", &format!("'{}'", path.display()));
    site.configure(&sql, "");
    site.start();
    site
}

fn rows(site: &Site) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(site.path("rows")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn registers_become_rows_whatever_the_line_does() {
    let device = Device::new();
    let path_of = "unit INT, a BIGINT, b DOUBLE, on_ BOOLEAN, bit BOOLEAN";
    let options = "'modbus.unit' = '1, 2, 3', 'modbus.unit.column' = 'unit', \
         'modbus.attempts_max' = '4', \
         'modbus.read.a' = 'holding 10', 'modbus.read.b' = 'input 7 u32 cdab *0.5 +1', \
         'modbus.read.on_' = 'coil 5', 'modbus.read.bit' = 'holding 12.0'";
    let mut site = site(&device, path_of, options);
    let bus = Bus::start(device, |unit, count, right| match (unit, count % 5) {
        // An exception: the function with its highest bit, and its code.
        (3, _) => sealed(vec![3, right[1] | 0x80, 2]),
        (2, 0) => Vec::new(),
        (2, 1) => right[..right.len() - 1].to_vec(),
        (2, 2) => {
            let mut wrong = right;
            wrong[3] ^= 4;
            wrong
        }
        // A second answer, which nobody asks for: it is not that to the next question.
        (1, 3) => [right, answer(&sealed(vec![1, 3, 0, 90, 0, 3]))].concat(),
        _ => right,
    });
    wait_until("both have given rows", || {
        let rows = rows(&site);
        let of = |unit: u64| rows.iter().filter(|row| row["unit"] == unit).count();
        of(1) >= 5 && of(2) >= 3
    });
    let low = |number: u32, unit: u32| number * 3 + unit;
    for row in rows(&site) {
        let unit = u32::try_from(row["unit"].as_u64().unwrap()).unwrap();
        assert!(unit == 1 || unit == 2, "{row}");
        assert_eq!(row["a"], low(10, unit), "{row}");
        let wide = low(7, unit) + (low(8, unit) << 16);
        assert_eq!(row["b"], f64::from(wide) * 0.5 + 1.0, "{row}");
        assert_eq!(row["on_"], true, "{row}");
        assert_eq!(row["bit"], low(12, unit) % 2 == 1, "{row}");
    }
    site.wait_for("unit 3");
    site.stop();
    bus.stop();
}

#[test]
fn a_line_that_goes_and_comes_is_taken_up_again() {
    let device = Device::new();
    let mut site = site(&device, "a INT", "'modbus.read.a' = 'holding 1 i16 @7'");
    let bus = Bus::start(device, |_, _, right| right);
    wait_until("rows", || rows(&site).len() >= 2);
    let mut device = bus.stop();
    device.unplug();
    site.wait_for("no serial port");
    let before = rows(&site).len();
    device.plug_in();
    let bus = Bus::start(device, |_, _, right| right);
    wait_until("rows again", || rows(&site).len() > before);
    assert!(rows(&site).iter().all(|row| row["a"] == 10));
    site.stop();
    bus.stop();
}
