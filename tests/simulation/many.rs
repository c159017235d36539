//! Many days, on all cores; and one day again, step by step.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use crate::plan::{Planned, day};
use crate::world::{Counts, World};

/// Steps of a day: between half as many and half as many more.
const STEPS: u64 = 120;
/// How long a failing day is made shorter.
const SHORTER_FOR: Duration = Duration::from_secs(10);
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// Which days are lived through.
pub(crate) struct Hunt {
    first: u64,
    days: u64,
    until: Option<Instant>,
}

/// A day that went wrong.
struct Failure {
    seed: u64,
    said: String,
}

impl Hunt {
    /// `days` from 0 on; unless `EVENTFLUX_SEED` says with which to begin, `EVENTFLUX_DAYS` how
    /// many, or `EVENTFLUX_CRASH_S` for how many seconds.
    pub(crate) fn from_environment(days: u64) -> Hunt {
        let seconds = number("EVENTFLUX_CRASH_S");
        let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let most = if until.is_some() { u64::MAX } else { days };
        let first = number("EVENTFLUX_SEED").unwrap_or(0);
        Hunt {
            first,
            days: number("EVENTFLUX_DAYS").unwrap_or(most),
            until,
        }
    }

    /// Lives through them; fails with the first that goes wrong, made as short as it gets.
    pub(crate) fn run(&self) -> Counts {
        quiet();
        let begin = Instant::now();
        let next = AtomicU64::new(self.first);
        let end = self.first.saturating_add(self.days);
        let failed: Mutex<Option<Failure>> = Mutex::new(None);
        let is_over = AtomicBool::new(false);
        let total: Mutex<Counts> = Mutex::default();
        let told: Mutex<Instant> = Mutex::new(begin);
        let work = || {
            while !is_over.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let is_late = self.until.is_some_and(|until| Instant::now() >= until);
                if seed >= end || is_late {
                    return;
                }
                let (conditions, steps) = day(seed, STEPS);
                match caught(|| World::live(&conditions, &steps, false)) {
                    Ok(counts) => total.lock().unwrap().add(counts),
                    Err(said) => {
                        is_over.store(true, Ordering::Relaxed);
                        failed.lock().unwrap().get_or_insert(Failure { seed, said });
                    }
                }
                let mut told = told.lock().unwrap();
                if self.until.is_some() && told.elapsed() >= PROGRESS {
                    *told = Instant::now();
                    let lived = next.load(Ordering::Relaxed) - self.first;
                    println!(
                        "{lived} days in {:.0?}, now at seed {seed}",
                        begin.elapsed()
                    );
                }
            }
        };
        std::thread::scope(|scope| {
            let cores = std::thread::available_parallelism().map_or(2, usize::from);
            for _ in 0..cores {
                scope.spawn(work);
            }
        });
        let lived = next.load(Ordering::Relaxed).min(end) - self.first;
        println!("{lived} days in {:.1?}", begin.elapsed());
        if let Some(failure) = failed.into_inner().unwrap() {
            failure.explain();
        }
        total.into_inner().unwrap()
    }
}

impl Failure {
    fn explain(self) -> ! {
        let Failure { seed, said } = self;
        let (conditions, steps) = day(seed, STEPS);
        let fails = |kept: &[usize]| {
            let steps: Vec<Planned> = kept.iter().map(|at| steps[*at].clone()).collect();
            caught(|| World::live(&conditions, &steps, false)).err()
        };
        let (kept, shorter) = shortest(steps.len(), &fails);
        let list = kept.iter().map(usize::to_string).collect::<Vec<_>>();
        panic!(
            "day {seed} goes wrong: {said}\n\
             made shorter, to {} of {} steps: {}\n\
             to see it:\nEVENTFLUX_SEED={seed} EVENTFLUX_STEPS={} cargo test --test simulation \
             again -- --nocapture\nthe whole day: without EVENTFLUX_STEPS",
            kept.len(),
            steps.len(),
            shorter.unwrap_or(said.clone()),
            list.join(",")
        );
    }
}

/// Leaves out steps as long as it fails all the same.
fn shortest(
    count: usize,
    fails: &dyn Fn(&[usize]) -> Option<String>,
) -> (Vec<usize>, Option<String>) {
    let until = Instant::now() + SHORTER_FOR;
    let mut kept: Vec<usize> = (0..count).collect();
    let mut said = None;
    let mut size = count.div_ceil(2);
    while size > 0 {
        let mut at = 0;
        let mut is_shorter = false;
        while at < kept.len() && Instant::now() < until {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + size).min(kept.len()));
            match fails(&fewer) {
                Some(text) => {
                    (kept, said, is_shorter) = (fewer, Some(text), true);
                }
                None => at += size,
            }
        }
        if size > 1 {
            size = size.div_ceil(2);
        } else if !is_shorter {
            break;
        }
        if Instant::now() >= until {
            break;
        }
    }
    (kept, said)
}

/// The day `EVENTFLUX_SEED`, the steps `EVENTFLUX_STEPS` of it, told as it goes; the day 0 else,
/// twice, which must not differ.
pub(crate) fn replay() {
    let seed = number("EVENTFLUX_SEED");
    let (conditions, mut steps) = day(seed.unwrap_or(0), STEPS);
    if let Ok(list) = std::env::var("EVENTFLUX_STEPS") {
        let kept: BTreeSet<usize> = list.split(',').filter_map(|at| at.parse().ok()).collect();
        let all = steps.into_iter().enumerate();
        let all = all.filter(|(at, _)| kept.contains(at));
        steps = all.map(|(_, step)| step).collect();
    }
    let counts = World::live(&conditions, &steps, seed.is_some());
    assert_eq!(counts, World::live(&conditions, &steps, false));
}

thread_local! {
    /// What the last panic of this thread said, when it is not to be printed.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lets panics of days be kept instead of printed.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_caught = SAID.with_borrow_mut(|said| {
                said.as_mut()
                    .map(|said| *said = panic.to_string())
                    .is_some()
            });
            if !is_caught {
                loud(panic);
            }
        }));
    });
}

fn caught<T>(live: impl FnOnce() -> T) -> Result<T, String> {
    SAID.set(Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(live));
    let said = SAID.take();
    result.map_err(|_| said.unwrap_or_default())
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is a number, not '{text}'")))
}
