//! What a node is called when nobody has named it.

use super::hash::sha256_hex;

/// `<hostname>-<8 hex of the machine id's SHA-256>`: the same after every start, and another one
/// on every machine, also where all are copies of one image with one hostname.
#[must_use]
pub fn name() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    named(&host.to_string_lossy(), machine.trim())
}

fn named(host: &str, machine: &str) -> String {
    /// With the hash behind it, the 64 that a name may have.
    const HOST_CHARS_MAX: usize = 55;
    let plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => c,
        _ => '_',
    };
    let host: String = host.chars().map(plain).take(HOST_CHARS_MAX).collect();
    let hash = sha256_hex(machine.as_bytes());
    format!("{host}-{}", hash.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_not_too_long() {
        assert_eq!(named("pi.local", ""), "pi_local-e3b0c442");
        assert_eq!(named(&"x".repeat(100), "1").len(), 64);
    }
}
