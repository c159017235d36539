//! Serial ports: which one is meant, how it is set, and one open port for all who use it.
//!
//! What it promises: a port that is open is set as its options say, is nobody else's as long as
//! `serial.exclusive` holds, and is shared by the stream that reads it and the stream that writes
//! to it. Whoever loses it lets go of it at once, so that what is plugged in again gets its old
//! name. Nothing here waits with the thread: what may take long is done on a thread of its own.
//!
//! What it leaves to others: when to try again, and what the bytes mean ([`crate::framing`]).

mod find;
mod port;
mod stream;

pub use find::{Address, Found, list};
pub use port::{OpenError, Port, Role, open};

use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};

/// What can be set for every stream at a serial port.
pub const SERIAL_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "serial.port",
        OptionKind::Text,
        "The port: a path (best one in /dev/serial/by-id/), or `usb:VENDOR:PRODUCT` or \
         `usb:VENDOR:PRODUCT:SERIAL` in hexadecimal digits, as `eventflux serial list` shows it",
    )
    .required(),
    OptionSpec::new(
        "serial.baud",
        OptionKind::Integer {
            min: 50,
            max: 12_000_000,
        },
        "Bits per second",
    )
    .or("115200"),
    OptionSpec::new(
        "serial.data_bits",
        OptionKind::Integer { min: 5, max: 8 },
        "Data bits of a byte",
    )
    .or("8"),
    OptionSpec::new(
        "serial.parity",
        OptionKind::Choice(&["none", "odd", "even"]),
        "The parity bit",
    )
    .or("none"),
    OptionSpec::new(
        "serial.stop_bits",
        OptionKind::Integer { min: 1, max: 2 },
        "Stop bits",
    )
    .or("1"),
    OptionSpec::new(
        "serial.flow",
        OptionKind::Choice(&["none", "hardware", "software"]),
        "Flow control: none, RTS and CTS, or XON and XOFF (for text only)",
    )
    .or("none"),
    OptionSpec::new(
        "serial.dtr",
        OptionKind::Choice(&["keep", "high", "low"]),
        "The line DTR, by which many boards are reset: as it is, or set when the port is opened",
    )
    .or("keep"),
    OptionSpec::new(
        "serial.rts",
        OptionKind::Choice(&["keep", "high", "low"]),
        "The line RTS, likewise",
    )
    .or("keep"),
    OptionSpec::new(
        "serial.exclusive",
        OptionKind::Flag,
        "Whether other programs are kept from opening the port",
    )
    .or("true"),
];

/// The parity bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// There is none.
    None,
    /// It makes the number of ones odd.
    Odd,
    /// It makes it even.
    Even,
}

/// Who says when to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Nobody.
    None,
    /// The lines RTS and CTS.
    Hardware,
    /// The bytes XON and XOFF.
    Software,
}

/// What is done with a line when the port is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing, neither then nor at closing.
    Keep,
    /// It is asserted.
    High,
    /// It is not.
    Low,
}

/// How a port is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bits per second.
    pub baud: u32,
    /// 5 to 8.
    pub data_bits: u8,
    /// The parity bit.
    pub parity: Parity,
    /// Whether there are two stop bits.
    pub has_two_stop_bits: bool,
    /// Flow control.
    pub flow: Flow,
    /// The line DTR.
    pub dtr: Level,
    /// The line RTS.
    pub rts: Level,
    /// Whether nobody else may open it.
    pub is_exclusive: bool,
}

impl Settings {
    /// 8 data bits, no parity, one stop bit, no flow control, and nobody else.
    #[must_use]
    pub fn plain(baud: u32) -> Settings {
        Settings {
            baud,
            data_bits: 8,
            parity: Parity::None,
            has_two_stop_bits: false,
            flow: Flow::None,
            dtr: Level::Keep,
            rts: Level::Keep,
            is_exclusive: true,
        }
    }

    /// Reads the options, see [`SERIAL_OPTIONS`].
    ///
    /// # Errors
    /// Two options that exclude each other.
    pub fn from_options(options: &Options) -> Result<Settings, OptionFault> {
        let level = |name| match options.text(name) {
            Some("high") => Level::High,
            Some("low") => Level::Low,
            Some(_) | None => Level::Keep,
        };
        let number = |name, default| {
            let number = options
                .integer(name)
                .and_then(|number| u32::try_from(number).ok());
            number.unwrap_or(default)
        };
        let settings = Settings {
            data_bits: u8::try_from(number("serial.data_bits", 8)).unwrap_or(8),
            parity: match options.text("serial.parity") {
                Some("odd") => Parity::Odd,
                Some("even") => Parity::Even,
                Some(_) | None => Parity::None,
            },
            has_two_stop_bits: number("serial.stop_bits", 1) == 2,
            flow: match options.text("serial.flow") {
                Some("hardware") => Flow::Hardware,
                Some("software") => Flow::Software,
                Some(_) | None => Flow::None,
            },
            dtr: level("serial.dtr"),
            rts: level("serial.rts"),
            is_exclusive: !options.has("serial.exclusive") || options.flag("serial.exclusive"),
            ..Settings::plain(number("serial.baud", 115_200))
        };
        if settings.flow == Flow::Hardware && settings.rts != Level::Keep {
            let problem = "with serial.flow = 'hardware' the port itself moves RTS";
            return Err(OptionFault::new("serial.rts", problem));
        }
        Ok(settings)
    }

    /// How many bits one byte takes on the line.
    #[must_use]
    pub fn bits_per_byte(&self) -> u32 {
        let parity = u32::from(self.parity != Parity::None);
        2 + u32::from(self.data_bits) + parity + u32::from(self.has_two_stop_bits)
    }
}

impl std::fmt::Display for Settings {
    /// `9600 baud, 8N1`.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Odd => 'O',
            Parity::Even => 'E',
        };
        let stop_bits = if self.has_two_stop_bits { 2 } else { 1 };
        write!(
            out,
            "{} baud, {}{parity}{stop_bits}",
            self.baud, self.data_bits
        )?;
        match self.flow {
            Flow::None => Ok(()),
            Flow::Hardware => out.write_str(", RTS/CTS"),
            Flow::Software => out.write_str(", XON/XOFF"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{Layer, OptionValue};

    #[test]
    fn options_become_settings() {
        assert_eq!(
            Settings::from_options(&Options::default()),
            Ok(Settings::plain(115_200))
        );
        let mut options = Options::default();
        let text = |text: &str| OptionValue::Text(text.to_owned());
        options.set("serial.baud", OptionValue::Integer(9600), Layer::Sql);
        options.set("serial.data_bits", OptionValue::Integer(7), Layer::Sql);
        options.set("serial.parity", text("even"), Layer::Sql);
        options.set("serial.stop_bits", OptionValue::Integer(2), Layer::Sql);
        options.set("serial.flow", text("hardware"), Layer::Sql);
        options.set("serial.dtr", text("low"), Layer::Sql);
        options.set("serial.exclusive", OptionValue::Flag(false), Layer::Sql);
        let settings = Settings::from_options(&options).unwrap();
        assert_eq!(settings.to_string(), "9600 baud, 7E2, RTS/CTS");
        assert_eq!(settings.bits_per_byte(), 11);
        assert_eq!((settings.dtr, settings.is_exclusive), (Level::Low, false));
        options.set("serial.rts", text("high"), Layer::Sql);
        let fault = Settings::from_options(&options).unwrap_err();
        assert_eq!(fault.option, "serial.rts");
    }
}
