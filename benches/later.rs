//! Figures of parts that do not exist yet. They are listed so that nobody forgets them; each
//! moves to the file of its group when it can be measured.

use crate::figure::Figure;

const fn not_yet(name: &'static str, what: &'static str, budget: &'static str) -> Figure {
    Figure {
        name,
        what,
        budget,
        measure: None,
    }
}

pub(crate) const FIGURES: &[Figure] = &[
    not_yet(
        "W",
        "append in batches of 100",
        ">= 2 M events/s, >= 0.7 x raw sled",
    ),
    not_yet(
        "W1",
        "one event per append, 64 producers",
        ">= 100,000 events/s",
    ),
    not_yet(
        "WB",
        "bytes to the disk per event",
        "<= 0.5 x the event's JSON",
    ),
    not_yet(
        "C",
        "delta checkpoint of 100 MB, 1% changed",
        "pause <= 5 ms",
    ),
    not_yet("CZ", "full checkpoint of T+L+P", "<= 0.2 x its CBOR"),
    not_yet(
        "R",
        "restart with a log suffix and state",
        ">= 200 MB/s, >= 1 M events/s",
    ),
    not_yet(
        "E0",
        "MQTT QoS 0 in, filter of 1%",
        ">= 0.8 x a bare subscriber",
    ),
    not_yet("E1", "MQTT QoS 1 in and out", ">= 0.8 x a bare subscriber"),
    not_yet(
        "EL",
        "latency at 1,000 events/s",
        "p50 <= 8 ms, p99 <= 20 ms over the broker",
    ),
    not_yet("BIN", "binary, stripped", "<= 8 MB"),
    not_yet("DEB", "package", "<= 3 MB"),
    not_yet("RSS", "resident memory when idle", "<= 10 MiB"),
    not_yet(
        "RSSF",
        "resident memory, 5,000 events/s for 1 h",
        "<= 14 MiB, not growing",
    ),
    not_yet(
        "RSSR",
        "resident memory, restart with 64 MiB",
        "idle + 8 MiB",
    ),
    not_yet("UP", "start to ready, empty store", "<= 50 ms"),
    not_yet(
        "IDLE",
        "CPU when idle, writes when idle",
        "<= 0.2% of a core, none",
    ),
];
