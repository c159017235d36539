//! Nodes take their states back, several at a time when there is much. That is all that an engine
//! ever does in threads; each node is in the hands of one of them, so that it does not show.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::node::Node;
use super::state::{Load, StateError};

/// States of fewer bytes together are taken back one after the other.
const ALONE_BYTES_MAX: usize = 1 << 20;
/// Threads, at most.
const THREADS_MAX: usize = 4;

/// What has become of a node's state.
pub(super) struct Loaded {
    /// Which node.
    number: usize,
    /// Whether there was any.
    pub(super) there: bool,
    pub(super) result: Result<(), StateError>,
    /// The operators whose pieces the node has taken.
    pub(super) claimed: Vec<u64>,
}

/// A node that has not been seen to: its number and its operator.
type Task<'n> = (usize, u64, &'n mut Node);

/// Has every node take its pieces out of those of all operators.
pub(super) fn load_all(
    nodes: &mut [Node],
    operators: &[u64],
    all: &BTreeMap<u64, Load<'_>>,
) -> Vec<Loaded> {
    let bytes: usize = all.values().map(Load::bytes).sum();
    let threads = match bytes < ALONE_BYTES_MAX {
        true => 1,
        false => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let tasks = nodes.iter_mut().zip(operators).enumerate();
    let tasks = tasks.map(|(number, (node, operator))| (number, *operator, node));
    let mut tasks: Vec<Task<'_>> = tasks.collect();
    // The largest one is taken first, which is the last one here.
    tasks.sort_by_key(|(_, operator, _)| all.get(operator).map_or(0, Load::bytes));
    let tasks = Mutex::new(tasks);
    let mut loaded = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(THREADS_MAX))
            .map_while(|_| {
                let thread = std::thread::Builder::new().name("restore".to_owned());
                thread.spawn_scoped(scope, || load_some(&tasks, all)).ok()
            })
            .collect();
        let mut loaded = load_some(&tasks, all);
        for thread in others {
            match thread.join() {
                Ok(some) => loaded.extend(some),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        loaded
    });
    loaded.sort_unstable_by_key(|loaded| loaded.number);
    loaded
}

/// Sees to nodes until there is none left.
fn load_some(tasks: &Mutex<Vec<Task<'_>>>, all: &BTreeMap<u64, Load<'_>>) -> Vec<Loaded> {
    let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut loaded = Vec::new();
    while let Some((number, operator, node)) = next() {
        let mut claimed = Vec::new();
        loaded.push(Loaded {
            number,
            there: all.contains_key(&operator),
            result: node.load(operator, all, &mut claimed),
            claimed,
        });
    }
    loaded
}
