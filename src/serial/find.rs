//! Which ports there are, as the kernel tells in `/sys`: no library is asked, and no daemon has to
//! run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where the kernel tells.
const SYSFS: &str = "/sys";

/// Which port is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The device at a path, perhaps behind links that udev keeps.
    Path(PathBuf),
    /// The USB device with these numbers, wherever it is plugged in.
    Usb {
        /// The vendor's number.
        vendor: u16,
        /// The product's.
        product: u16,
        /// The device's own, if there are several of the kind.
        serial: Option<String>,
    },
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let Some(usb) = text.strip_prefix("usb:") else {
            return match text.starts_with('/') {
                true => Ok(Address::Path(PathBuf::from(text))),
                false => Err(format!(
                    "`{text}` is neither a whole path (/dev/…) nor `usb:VENDOR:PRODUCT`"
                )),
            };
        };
        let mut parts = usb.splitn(3, ':');
        let mut number = || {
            let digits = parts.next().filter(|digits| digits.len() == 4)?;
            u16::from_str_radix(digits, 16).ok()
        };
        let (Some(vendor), Some(product)) = (number(), number()) else {
            return Err(format!(
                "`{text}` is not `usb:VENDOR:PRODUCT` with four hexadecimal digits each"
            ));
        };
        let serial = parts.next().map(str::to_owned);
        if serial.as_ref().is_some_and(String::is_empty) {
            return Err(format!("`{text}` ends with a colon and no serial number"));
        }
        Ok(Address::Usb {
            vendor,
            product,
            serial,
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Path(path) => write!(out, "{}", path.display()),
            Address::Usb {
                vendor,
                product,
                serial,
            } => {
                write!(out, "usb:{vendor:04x}:{product:04x}")?;
                match serial {
                    Some(serial) => write!(out, ":{serial}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Address {
    /// The device's path, now.
    ///
    /// # Errors
    /// There is none, or there are several; in a sentence.
    pub fn find(&self) -> Result<PathBuf, String> {
        self.find_in(Path::new(SYSFS))
    }

    fn find_in(&self, sysfs: &Path) -> Result<PathBuf, String> {
        let (numbers, wanted) = match self {
            Address::Path(path) => {
                let canonical = std::fs::canonicalize(path);
                return canonical.map_err(|error| format!("{}: {error}", path.display()));
            }
            Address::Usb {
                vendor,
                product,
                serial,
            } => ((*vendor, *product), serial),
        };
        let mut fitting = list_in(sysfs);
        fitting.retain(|found| {
            let is_serial = |usb: &Usb| wanted.is_none() || usb.serial == *wanted;
            let usb = found.usb.as_ref();
            usb.is_some_and(|usb| (usb.vendor, usb.product) == numbers && is_serial(usb))
        });
        match fitting.as_slice() {
            [one] => Ok(one.path.clone()),
            [] => Err(format!("no device {self} is plugged in")),
            several => {
                let paths = several.iter().map(|found| found.path.display().to_string());
                let paths: Vec<String> = paths.collect();
                Err(format!(
                    "{self} is {}: name one by its serial number or in /dev/serial/by-path/",
                    paths.join(" and ")
                ))
            }
        }
    }
}

/// A port that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its device.
    pub path: PathBuf,
    /// What it is, when it is plugged into USB.
    usb: Option<Usb>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Usb {
    vendor: u16,
    product: u16,
    serial: Option<String>,
    /// Manufacturer and product, as the device calls itself.
    name: String,
}

impl Found {
    /// The address by which it can be named wherever it is plugged in.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        let usb = self.usb.as_ref()?;
        Some(Address::Usb {
            vendor: usb.vendor,
            product: usb.product,
            serial: usb.serial.clone(),
        })
    }

    /// What it says that it is.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let usb = self.usb.as_ref()?;
        Some(&usb.name)
            .filter(|name| !name.is_empty())
            .map(String::as_str)
    }

    /// The links that udev keeps to it.
    #[must_use]
    pub fn links(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir("/dev/serial/by-id").into_iter().flatten();
        let links = entries.flatten().map(|entry| entry.path());
        links
            .filter(|link| std::fs::canonicalize(link).is_ok_and(|to| to == self.path))
            .collect()
    }
}

/// Every serial port that the kernel knows and that has hardware behind it, by path.
#[must_use]
pub fn list() -> Vec<Found> {
    list_in(Path::new(SYSFS))
}

fn list_in(sysfs: &Path) -> Vec<Found> {
    let entries = std::fs::read_dir(sysfs.join("class/tty"))
        .into_iter()
        .flatten();
    let mut found: Vec<Found> = entries
        .flatten()
        .filter_map(|entry| look_at(&entry.path()))
        .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn look_at(entry: &Path) -> Option<Found> {
    // Consoles and pseudo terminals have no device.
    let device = std::fs::canonicalize(entry.join("device")).ok()?;
    // The kernel keeps names for UARTs of which there is none: their type is unknown.
    let kind = read(&entry.join("type"));
    if kind.as_deref() == Some("0") {
        return None;
    }
    Some(Found {
        path: Path::new("/dev").join(entry.file_name()?),
        usb: device.ancestors().find_map(usb_at),
    })
}

fn usb_at(folder: &Path) -> Option<Usb> {
    let number = |name| u16::from_str_radix(&read(&folder.join(name))?, 16).ok();
    let mut name = String::new();
    for part in ["manufacturer", "product"] {
        if let Some(part) = read(&folder.join(part)) {
            let _ = write!(name, "{}{part}", if name.is_empty() { "" } else { " " });
        }
    }
    Some(Usb {
        vendor: number("idVendor")?,
        product: number("idProduct")?,
        serial: read(&folder.join("serial")),
        name,
    })
}

/// A line of a file, without what devices put into their names to disturb terminals.
fn read(path: &Path) -> Option<String> {
    let text = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&text);
    let plain: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn addresses_read_and_write() {
        let table = [
            ("/dev/ttyUSB0", Ok("/dev/ttyUSB0")),
            ("usb:0403:6001", Ok("usb:0403:6001")),
            ("usb:0403:6001:A5:B", Ok("usb:0403:6001:A5:B")),
            ("usb:2E8A:000a", Ok("usb:2e8a:000a")),
            ("ttyUSB0", Err("neither a whole path")),
            ("usb:0403", Err("four hexadecimal digits")),
            ("usb:403:6001", Err("four hexadecimal digits")),
            ("usb:0403:600g", Err("four hexadecimal digits")),
            ("usb:0403:6001:", Err("no serial number")),
        ];
        for (text, expected) in table {
            match (text.parse::<Address>(), expected) {
                (Ok(address), Ok(shown)) => assert_eq!(address.to_string(), shown),
                (Err(problem), Err(part)) => assert!(problem.contains(part), "{problem}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    /// A `/sys` with two adapters of one kind, one with two ports, a UART, one that is none, and
    /// a console.
    fn sysfs() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let put = |name: &str, text: &str| {
            let path = path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for (usb, serial) in [("usb1/1-1", "A1\n"), ("usb1/1-2", "A2\n")] {
            put(&format!("devices/{usb}/idVendor"), "0403\n");
            put(&format!("devices/{usb}/idProduct"), "6001\n");
            put(&format!("devices/{usb}/serial"), serial);
            put(&format!("devices/{usb}/manufacturer"), "FTDI\n");
            put(&format!("devices/{usb}/product"), "Serial \x1b Adapter\n");
        }
        put("devices/usb1/1-3/idVendor", "2e8a\n");
        put("devices/usb1/1-3/idProduct", "000a\n");
        put("devices/platform/uart/x", "");
        let ttys = [
            ("ttyUSB0", "devices/usb1/1-1/1-1:1.0/ttyUSB0"),
            ("ttyUSB1", "devices/usb1/1-2/1-2:1.0/ttyUSB1"),
            ("ttyACM0", "devices/usb1/1-3/1-3:1.0"),
            ("ttyACM1", "devices/usb1/1-3/1-3:1.2"),
            ("ttyS0", "devices/platform/uart"),
            ("ttyS1", "devices/platform/uart"),
        ];
        for (name, device) in ttys {
            std::fs::create_dir_all(path(device)).unwrap();
            std::fs::create_dir_all(path(&format!("class/tty/{name}"))).unwrap();
            symlink(path(device), path(&format!("class/tty/{name}/device"))).unwrap();
        }
        put("class/tty/ttyS0/type", "4\n");
        put("class/tty/ttyS1/type", "0\n");
        put("class/tty/tty0/dev", "4:0\n");
        root
    }

    #[test]
    fn ports_are_found_by_what_is_plugged_in() {
        let root = sysfs();
        let ports = list_in(root.path());
        let names: Vec<String> = ports
            .iter()
            .map(|port| port.path.display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "/dev/ttyACM0",
                "/dev/ttyACM1",
                "/dev/ttyS0",
                "/dev/ttyUSB0",
                "/dev/ttyUSB1"
            ]
        );
        assert_eq!(ports[2].address(), None);
        assert_eq!(ports[3].name(), Some("FTDI Serial  Adapter"));
        assert_eq!(ports[3].address().unwrap().to_string(), "usb:0403:6001:A1");

        let table = [
            ("usb:0403:6001:A2", Ok("/dev/ttyUSB1")),
            ("usb:0403:6001", Err("/dev/ttyUSB0 and /dev/ttyUSB1")),
            ("usb:2e8a:000a", Err("/dev/ttyACM0 and /dev/ttyACM1")),
            (
                "usb:0403:6001:A3",
                Err("no device usb:0403:6001:A3 is plugged in"),
            ),
            ("/dev/none", Err("/dev/none: No such file")),
        ];
        for (text, expected) in table {
            let address: Address = text.parse().unwrap();
            match (address.find_in(root.path()), expected) {
                (Ok(path), Ok(shown)) => assert_eq!(path, Path::new(shown)),
                (Err(problem), Err(part)) => assert!(problem.contains(part), "{problem}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
