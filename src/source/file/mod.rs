//! A source that reads the lines of files: follows them as they grow and are rotated, or replays
//! them once.
//!
//! What it promises: a line is taken once its end is there, and once only, also when the process is
//! killed: how far each file is taken stands in the log with the rows ([`marks`]). A file that is
//! renamed is read to its end before the one that has taken its name. Files are looked at on a
//! thread of their own, so that a disk that hangs stops this stream and nothing else. When the
//! pipeline is behind, it is waited for.

mod follow;
mod lines;
mod marks;
mod names;
mod pace;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking, yield_now};
use tokio::time::Instant;

use self::follow::{Follower, Line, Manner, Note, Step};
use self::names::Names;
use self::pace::Pace;
use super::{Context, Dropped, Failed, Intake, Plan};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec};
use crate::decode::{Reason, Reject};
use crate::event::{Type, Value};
use crate::pace::Sparse;

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "file.path",
        OptionKind::Text,
        "The file; in its name (not its folder's) `*` stands for any characters and `?` for one. \
         Compressed files are left alone",
    )
    .required(),
    OptionSpec::new(
        "file.mode",
        OptionKind::Choice(&["tail", "replay"]),
        "`tail`: follow the files as they grow; `replay`: read them once, in the order of their \
         names",
    )
    .or("tail"),
    OptionSpec::new(
        "file.start",
        OptionKind::Choice(&["beginning", "end"]),
        "`end`: leave out what is there when the stream runs for the first time",
    )
    .or("beginning"),
    OptionSpec::new(
        "file.header_lines",
        OptionKind::Integer { min: 0, max: 1_000 },
        "So many lines at the beginning of each file are left out",
    )
    .or("0"),
    OptionSpec::new(
        "file.poll",
        OptionKind::Duration,
        "How often files are looked at",
    )
    .or("250 ms"),
    OptionSpec::new(
        "file.rotate_wait",
        OptionKind::Duration,
        "How long a file that was renamed or deleted may go without growing before it is let go",
    )
    .or("5 s"),
    OptionSpec::new(
        "file.pace",
        OptionKind::Choice(&["full", "rows"]),
        "For `replay`: as fast as possible, or as fast as the rows' own time goes by \
         (`timestamp.field`)",
    )
    .or("full"),
    OptionSpec::new(
        "file.speed",
        OptionKind::Integer {
            min: 1,
            max: 1_000_000,
        },
        "With pace `rows`: how many times as fast",
    )
    .or("1"),
    OptionSpec::new(
        "file.path.column",
        OptionKind::Text,
        "The STRING column that takes the path of the line's file",
    ),
];

/// How soon files may be looked at again.
const POLL_MIN: Duration = Duration::from_millis(10);
/// Lines between two moments at which others may run.
const YIELD_LINES: usize = 128;
/// One line about files that cannot be read in this time.
const LINE_SPAN: Duration = Duration::from_secs(10);

/// A file source, checked.
#[derive(Debug)]
pub struct Files {
    manner: Manner,
    poll: Duration,
    plan: Plan,
    payload_bytes_max: usize,
    /// The column that takes the path.
    path: Option<usize>,
    pace: Option<Pace>,
}

impl Files {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Files, OptionFault> {
        let Definition {
            options,
            schema,
            format,
            ..
        } = *definition;
        let path = options.text("file.path").unwrap_or_default();
        let names = Names::new(path).map_err(|problem| OptionFault::new("file.path", problem))?;
        let is_replay = options.text("file.mode") == Some("replay");
        let from_end = options.text("file.start") == Some("end");
        if is_replay && from_end {
            let problem = "a replay begins at the beginning";
            return Err(OptionFault::new("file.start", problem));
        }
        let span = |name, default_ms| {
            let ms = options.integer(name).unwrap_or(default_ms);
            Duration::from_millis(ms.unsigned_abs())
        };
        let column = definition.column("file.path.column", &[Type::String])?;
        let taken: Vec<usize> = column.into_iter().collect();
        let payload_bytes_max = options.integer("payload.bytes_max").unwrap_or(1 << 20);
        let payload_bytes_max = usize::try_from(payload_bytes_max).unwrap_or(usize::MAX);
        let header_lines = options.integer("file.header_lines").unwrap_or(0);
        Ok(Files {
            manner: Manner {
                names,
                is_replay,
                from_end,
                header_lines: header_lines.unsigned_abs(),
                // One more tells what is too long from what is not; another is the end's.
                line_bytes_max: payload_bytes_max.saturating_add(2),
                rotate_wait: span("file.rotate_wait", 5_000),
            },
            poll: span("file.poll", 250).max(POLL_MIN),
            pace: Pace::new(definition, is_replay, &taken)?,
            plan: Plan::new(format, options, schema, &taken)?,
            payload_bytes_max,
            path: column,
        })
    }

    /// Reads until told to stop, or until the pipeline is gone.
    pub async fn run(self, mut context: Context) {
        let tail = std::mem::take(&mut context.tail);
        let mut task = Task {
            intake: Intake::new(self.plan, &context),
            name: context.name,
            stop: context.stop,
            poll: self.poll,
            payload_bytes_max: self.payload_bytes_max,
            path: self.path,
            pace: self.pace,
            marked: 0,
            is_missing: None,
            trouble: Sparse::new(LINE_SPAN),
        };
        let follower = Follower::new(self.manner, &tail);
        let Ended = task.run(follower).await;
        task.intake.drain(context.stop_within).await;
    }
}

/// The source is to end: told to, without a pipeline, or failed.
struct Ended;

impl From<Failed> for Ended {
    fn from(_: Failed) -> Ended {
        Ended
    }
}

struct Task {
    intake: Intake,
    name: String,
    stop: watch::Receiver<bool>,
    poll: Duration,
    payload_bytes_max: usize,
    path: Option<usize>,
    pace: Option<Pace>,
    /// Marks given since all files were marked.
    marked: usize,
    is_missing: Option<bool>,
    trouble: Sparse,
}

impl Task {
    async fn run(&mut self, mut follower: Follower) -> Ended {
        let mut look_at = Instant::now();
        loop {
            let look = look_at <= Instant::now();
            if look {
                look_at = Instant::now() + self.poll;
            }
            let job = spawn_blocking(move || {
                let step = follower.step(look, std::time::Instant::now());
                (follower, step)
            });
            let step;
            (follower, step) = match self.looked(job).await {
                Ok(done) => done,
                Err(ended) => return ended,
            };
            self.tell(&step);
            if let Err(ended) = self.take(&step).await {
                return ended;
            }
            if self.marked >= marks::REFRESH_AFTER {
                self.mark(&follower.marks());
                self.marked = 0;
            }
            if step.is_over {
                tracing::info!(stream = self.name, "the replay is over: everything is read");
                self.intake.down("the replay is over");
            }
            let waits_until = match (step.is_over, step.has_more) {
                (true, _) => None,
                (false, true) => continue,
                (false, false) => Some(look_at),
            };
            if let Err(ended) = self.wait(waits_until).await {
                return ended;
            }
        }
    }

    /// Waits for what the thread has found.
    async fn looked(
        &mut self,
        job: JoinHandle<(Follower, Step)>,
    ) -> Result<(Follower, Step), Ended> {
        tokio::select! {
            done = job => done.map_err(|error| {
                tracing::error!(stream = self.name, "reading files failed: {error}");
                Ended
            }),
            () = self.intake.serve() => Err(Ended),
            _ = self.stop.wait_for(|stop| *stop) => Err(Ended),
        }
    }

    /// Waits until then, or for ever.
    async fn wait(&mut self, until: Option<Instant>) -> Result<(), Ended> {
        tokio::select! {
            () = crate::pace::sleep_until_some(until) => Ok(()),
            () = self.intake.serve() => Err(Ended),
            _ = self.stop.wait_for(|stop| *stop) => Err(Ended),
        }
    }

    async fn take(&mut self, step: &Step) -> Result<(), Ended> {
        self.mark(&step.marks);
        let paths: Vec<Value> = step.paths.iter().map(as_value).collect();
        let mut begin = 0;
        for (number, line) in step.lines.iter().enumerate() {
            let bytes = step.bytes.get(begin..line.end).unwrap_or_default();
            begin = line.end;
            let due = self.pace.as_mut().and_then(|pace| pace.due(bytes));
            if due.is_some_and(|due| due > Instant::now()) {
                self.wait(due).await?;
            }
            if self.intake.is_full(bytes.len()) {
                tokio::select! {
                    is_there = self.intake.room(bytes.len()) => {
                        if !is_there {
                            return Err(Ended);
                        }
                    }
                    _ = self.stop.wait_for(|stop| *stop) => return Err(Ended),
                }
            }
            let path = paths.get(line.path);
            self.take_line(bytes, line, path)?;
            if self.intake.has_batch() {
                self.intake.offer();
            }
            if number % YIELD_LINES == YIELD_LINES - 1 {
                yield_now().await;
            }
        }
        Ok(())
    }

    fn take_line(&mut self, bytes: &[u8], line: &Line, path: Option<&Value>) -> Result<(), Failed> {
        self.marked += 1;
        if bytes.len() > self.payload_bytes_max {
            let (total, max) = (line.bytes_total, self.payload_bytes_max);
            let detail = format!("a line of {total} bytes; payload.bytes_max is {max}");
            let reject = Reject::new(Reason::TooLarge, detail);
            self.intake.refuse(reject, bytes, Some(line.mark))?;
            return Ok(());
        }
        let fill = self.path.zip(path.cloned());
        self.intake.take(bytes, fill.as_slice(), Some(line.mark))?;
        Ok(())
    }

    fn mark(&mut self, marks: &[crate::event::DeliveryMark]) {
        self.marked += marks.len();
        for mark in marks {
            self.intake.pass(Some(*mark));
        }
    }

    fn tell(&mut self, step: &Step) {
        for note in &step.notes {
            self.say(note);
        }
        let is_missing = step.missing.is_some();
        if self.is_missing.replace(is_missing) == Some(is_missing) {
            return;
        }
        match &step.missing {
            None => self.intake.up(),
            Some(why) => {
                tracing::warn!(stream = self.name, "{why}; waiting for it");
                self.intake.down(why);
            }
        }
    }

    fn say(&mut self, note: &Note) {
        let stream = &self.name;
        match note {
            Note::Follows(path, 0) => {
                tracing::info!(stream, "reading `{}` from its beginning", path.display());
            }
            Note::Follows(path, offset) => {
                tracing::info!(stream, "reading `{}` from byte {offset} on", path.display());
            }
            Note::Anew(path) => tracing::warn!(
                stream,
                "`{}` was cut or written anew: reading it from its beginning",
                path.display()
            ),
            Note::LetGo(path) => {
                tracing::info!(stream, "`{}` is read to its end", path.display());
            }
            Note::Incomplete(path, bytes) => {
                let what = format!("the last {bytes} bytes of `{}`", path.display());
                self.intake.drop(Dropped::Incomplete, &what);
            }
            Note::Unreadable(path, why) => {
                if let Some(count) = self.trouble.occurred(std::time::Instant::now()) {
                    let path = path.display();
                    tracing::warn!(stream, count, "cannot read `{path}`: {why}");
                }
            }
            Note::TooMany(surplus) => tracing::warn!(
                stream,
                "only {} files can be followed: the {surplus} that were not changed for longest \
                 are left out",
                marks::FILES_MAX
            ),
        }
    }
}

fn as_value(path: &Arc<Path>) -> Value {
    Value::text(&path.to_string_lossy())
}
