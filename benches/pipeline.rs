//! The pipeline in process on a real disk: acknowledgements.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventflux::event::Batch;
use eventflux::held::Held;
use eventflux::pipeline::{
    Core, Disk, Durability, Handles, Limits, Open, Opened, Pulse, Recovered, RoomLimits,
    SourceHandle, StatePolicy, run,
};
use eventflux::source::Arrival;
use eventflux::sql::{SqlText, compile};
use eventflux::store::sled::StoreOptions;
use eventflux::store::{Store, sled as store};
use tokio::sync::watch;

use crate::events::{Events, STREAM};
use crate::figure::{Figure, Measured};
use crate::folder;
use crate::segments::Segments;

const PRODUCERS: usize = 64;
const EACH: u64 = 4_000;
const FILTER: &str = "INSERT INTO Out SELECT sensor_id, temperature FROM S WHERE temperature > 30;";

pub(crate) const FIGURES: &[Figure] = &[Figure {
    name: "W1",
    what: "one event per append, 64 producers",
    budget: ">= 100,000 events/s",
    measure: Some(producers),
}];

fn open(path: &Path, sql: &str) -> (Core, Recovered) {
    let opened = store::open(path, &StoreOptions::default()).expect("the store opens");
    open_on(opened.store, sql)
}

fn open_on(store: Arc<dyn Store>, sql: &str) -> (Core, Recovered) {
    let texts = [SqlText {
        path: "bench.sql".to_owned(),
        text: format!("{STREAM}{sql}"),
    }];
    let application = compile(&texts).expect("the bench's SQL is right");
    let opened = Core::open(&Open {
        store,
        identity: 0,
        application: Arc::new(application),
        texts: &texts,
        sinks: &[],
        checkpoints_kept: 2,
        state_policy: StatePolicy::KeepCompatible,
    });
    opened.expect("the store is whole")
}

fn producers() -> Measured {
    let folder = folder::new();
    let (core, _) = open(folder.path(), FILTER);
    let (rate, syncs) = rate_of(core);
    let on_files = folder::new();
    let (core, _) = open_on(Arc::new(Segments::new(on_files.path())), FILTER);
    let (segments, _) = rate_of(core);
    Measured {
        value: rate,
        met: rate >= 1e5,
        details: vec![
            ("syncs/s", syncs),
            ("events/sync", rate / syncs),
            ("bare fdatasync/s", bare_syncs()),
            ("on segment files", segments),
        ],
    }
}

/// Events and syncs per second with all producers.
fn rate_of(core: Core) -> (f64, f64) {
    let stream = eventflux::sql::plan::StreamId(0);
    let (to, arrivals) = crossbeam::channel::bounded(PRODUCERS);
    let (sources, released): (Vec<_>, Vec<_>) = (0..PRODUCERS)
        .map(|_| {
            let (released, was_released) = watch::channel(0);
            (SourceHandle { stream, released }, was_released)
        })
        .unzip();
    let (confirm, confirmed) = crossbeam::channel::bounded(1);
    let handles = Handles {
        sources: (0..).zip(sources).collect(),
        arrivals,
        feeds: Vec::new(),
        confirmed,
        commands: crossbeam::channel::never(),
        stopping: watch::channel(false).1,
        drained: watch::channel(false).0,
        pulse: Pulse::default(),
        metrics: Arc::default(),
    };
    let metrics = Arc::clone(&handles.metrics);
    let limits = Limits {
        turn_rows_max: 4096,
        turn_bytes_max: 1 << 20,
        unsynced_bytes_max: 8 << 20,
        durability: Durability::Always,
        checkpoint_interval: None,
        checkpoint_log_bytes_max: None,
        room: RoomLimits {
            bytes_max: 0,
            free_bytes_min: 0,
        },
        jump_ms_max: i64::MAX,
        sinks_within: Duration::ZERO,
    };
    let checkpoint = core.last();
    let opened = Opened {
        core,
        identity: 0,
        checkpoint,
    };
    let disk = Disk {
        open: Box::new(|| panic!("the store failed")),
        bytes_free: Box::new(|| None),
    };
    let pipeline = std::thread::spawn(move || run(disk, opened, handles, limits));
    let time = acknowledged(&to, released);
    drop((to, confirm));
    let ended = pipeline.join().expect("it does not panic");
    ended.expect("the disk works");
    let count = f64::from(u32::try_from(PRODUCERS).expect("a few")) * as_float(EACH);
    let syncs = as_float(metrics.syncs.load(std::sync::atomic::Ordering::Relaxed));
    (count / time.as_secs_f64(), syncs / time.as_secs_f64())
}

/// Every producer sends an event and waits until it is durable, again and again; how long all of
/// them took.
fn acknowledged(
    to: &crossbeam::channel::Sender<Arrival>,
    released: Vec<watch::Receiver<u64>>,
) -> Duration {
    let mut template = Batch::new(5);
    Events::new(100).fill(&mut template, 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let begin = Instant::now();
    runtime.block_on(async {
        let producers = released
            .into_iter()
            .enumerate()
            .map(|(source, mut released)| {
                let (to, template) = (to.clone(), template.clone());
                tokio::spawn(async move {
                    for through in 1..=EACH {
                        let arrival = Arrival {
                            source,
                            rows: template.clone(),
                            rejected: Vec::new(),
                            marks: Vec::new(),
                            through,
                            held: Held::default(),
                        };
                        to.try_send(arrival).expect("one from each fits");
                        let waited = released.wait_for(|reached| *reached >= through).await;
                        waited.expect("the pipeline runs");
                    }
                })
            });
        for producer in producers.collect::<Vec<_>>() {
            producer.await.expect("it does not panic");
        }
    });
    begin.elapsed()
}

/// How often the disk under the stores can be synced by somebody who does nothing else.
fn bare_syncs() -> f64 {
    use std::io::Write as _;
    let folder = folder::new();
    let mut file = std::fs::File::create(folder.path().join("file")).expect("the folder is ours");
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(1) {
        file.write_all(&[7; 4096]).expect("the disk has room");
        file.sync_data().expect("the disk works");
        count += 1;
    }
    f64::from(count)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn as_float(count: u64) -> f64 {
    count as f64
}
