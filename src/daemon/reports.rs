//! Reports of sources and sinks become rows of the stream `_events`.

use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError};
use tokio::sync::{mpsc, watch};

use crate::event::{Batch, EVENTS_COLUMNS, Report, Stamp};
use crate::held::Held;
use crate::source::Arrival;

/// How soon a full pipeline is asked again.
const OFFER_AGAIN: Duration = Duration::from_millis(5);

/// Hands reports to the pipeline, as a source with the number `source`, until told to stop.
pub(super) async fn run(
    mut reports: mpsc::Receiver<Report>,
    source: usize,
    arrivals: Sender<Arrival>,
    mut stop: watch::Receiver<bool>,
) {
    let mut through = 0;
    loop {
        let first = tokio::select! {
            biased;
            report = reports.recv() => report,
            _ = stop.wait_for(|stop| *stop) => None,
        };
        let Some(first) = first else { return };
        let mut rows = Batch::new(EVENTS_COLUMNS.len());
        let mut next = Some(first);
        while let Some(report) = next.take() {
            rows.push(Stamp::default(), report.into_row());
            through += 1;
            next = reports.try_recv().ok();
        }
        let mut arrival = Arrival {
            source,
            rows,
            rejected: Vec::new(),
            marks: Vec::new(),
            through,
            held: Held::default(),
        };
        while let Err(error) = arrivals.try_send(arrival) {
            match error {
                TrySendError::Full(back) => arrival = back,
                TrySendError::Disconnected(_) => return,
            }
            tokio::time::sleep(OFFER_AGAIN).await;
            if *stop.borrow() {
                return;
            }
        }
    }
}
