//! What queries read besides a stream, and what they write besides one: joins, tables, triggers,
//! partitions, aggregations over durations.

use std::sync::Arc;

use super::super::cron::Cron;
use super::{Aggregate, Application, Expr, StreamId, StreamInput};
use crate::diagnostic::Place;
use crate::event::Schema;

/// The place of a table in [`super::Application::tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub usize);

/// The place of an aggregation in [`super::Application::aggregations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AggregationId(pub usize);

/// Two sides, matched.
///
/// The joined row has the columns of the left side and behind them those of the right side.
#[derive(Clone, Debug)]
pub struct Join {
    /// Which rows without a match come out, with NULLs for the other side.
    pub kind: JoinKind,
    /// What stands before JOIN.
    pub left: Side,
    /// What stands behind it.
    pub right: Side,
    /// Pairs of expressions that must be equal, each over its side's row: looked up by hash.
    pub keys: Vec<(Expr, Expr)>,
    /// What must hold besides; over the joined row.
    pub residual: Option<Expr>,
}

impl Join {
    /// Columns of the joined row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.left.width() + self.right.width()
    }

    /// Whether joined rows leave again: when every stream in it has a window that they leave.
    #[must_use]
    pub fn forgets(&self) -> bool {
        let sides = [&self.left, &self.right];
        let mut streams = sides.iter().filter_map(|side| match &side.source {
            Source::Stream(input) => Some(input.forgets()),
            Source::Join(join) => Some(join.forgets()),
            Source::Table { .. } | Source::Aggregation { .. } => None,
        });
        streams.all(|forgets| forgets)
    }

    /// Whether joined rows come only when batches close: every stream that triggers has a batch
    /// window.
    #[must_use]
    pub fn comes_in_batches(&self) -> bool {
        let sides = [&self.left, &self.right].into_iter();
        let mut triggers = sides.filter(|side| side.triggers);
        triggers.all(|side| match &side.source {
            Source::Stream(input) => {
                let window = input.window.as_ref();
                window.is_some_and(|window| window.is_batch())
            }
            Source::Join(join) => join.comes_in_batches(),
            Source::Table { .. } | Source::Aggregation { .. } => true,
        })
    }

    /// Whether rows without a match may come out and leave again, although matched ones stay.
    #[must_use]
    pub fn may_forget_some(&self) -> bool {
        let mut sides = [&self.left, &self.right].into_iter();
        self.kind != JoinKind::Inner && self.has_windows()
            || sides.any(|side| match &side.source {
                Source::Join(join) => join.may_forget_some(),
                Source::Stream(_) | Source::Table { .. } | Source::Aggregation { .. } => false,
            })
    }

    fn has_windows(&self) -> bool {
        let sides = [&self.left, &self.right];
        sides.iter().any(|side| match &side.source {
            Source::Stream(input) => input.window.is_some(),
            Source::Join(join) => join.has_windows(),
            Source::Table { .. } | Source::Aggregation { .. } => false,
        })
    }

    /// Every expression of it but those of its streams.
    pub fn exprs<'a>(&'a self, found: &mut Vec<&'a Expr>) {
        found.extend(self.keys.iter().flat_map(|(x, y)| [x, y]));
        found.extend(&self.residual);
        for side in [&self.left, &self.right] {
            match &side.source {
                Source::Aggregation { within, .. } => found.extend([&within.0, &within.1]),
                Source::Join(join) => join.exprs(found),
                Source::Stream(_) | Source::Table { .. } => {}
            }
        }
    }

    /// The tables and aggregations that it reads.
    pub fn stores(&self, found: &mut Vec<(Store, Access)>) {
        for side in [&self.left, &self.right] {
            match &side.source {
                Source::Table { table, .. } => found.push((Store::Table(*table), Access::Reads)),
                Source::Aggregation { aggregation, .. } => {
                    found.push((Store::Aggregation(*aggregation), Access::Reads));
                }
                Source::Join(join) => join.stores(found),
                Source::Stream(_) => {}
            }
        }
    }
}

/// What rows are kept in besides windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    /// A table.
    Table(TableId),
    /// An aggregation.
    Aggregation(AggregationId),
}

/// What is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// It is looked up.
    Reads,
    /// It is changed.
    Writes,
}

/// Which sides keep their rows without a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// Neither.
    Inner,
    /// The left side.
    Left,
    /// The right side.
    Right,
    /// Both.
    Full,
}

/// One side of a join.
#[derive(Clone, Debug)]
pub struct Side {
    /// Where the rows come from.
    pub source: Source,
    /// Whether a row that arrives looks for matches on the other side.
    pub triggers: bool,
}

impl Side {
    /// Columns of the side's row.
    #[must_use]
    pub fn width(&self) -> usize {
        match &self.source {
            Source::Stream(input) => input.keep.len(),
            Source::Table { keep, .. } | Source::Aggregation { keep, .. } => keep.len(),
            Source::Join(join) => join.width(),
        }
    }
}

/// Where the rows of a side come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A stream. Without a window it is only a trigger: it keeps nothing for the other side.
    Stream(StreamInput),
    /// What a table holds when the other side's row arrives.
    Table {
        /// Which.
        table: TableId,
        /// The table's columns that are read, ascending.
        keep: Vec<usize>,
    },
    /// Buckets of an aggregation.
    Aggregation {
        /// Which.
        aggregation: AggregationId,
        /// `WITHIN`: start and end (exclusive), over the other side's row; milliseconds.
        within: Box<(Expr, Expr)>,
        /// `PER`: the place in [`Aggregation::durations`].
        per: usize,
        /// The aggregation's columns that are read, ascending.
        keep: Vec<usize>,
    },
    /// Another join: its live pairs.
    Join(Box<Join>),
}

/// Where a query's rows go.
#[derive(Clone, Debug)]
pub enum Target {
    /// Into a stream.
    Stream(StreamId),
    /// Into a table.
    Table {
        /// Which.
        table: TableId,
        /// What is done there.
        write: Write,
    },
}

/// What a query does to a table. Expressions are over the query's row, all of `select`, and
/// behind it the table's row.
#[derive(Clone, Debug)]
pub enum Write {
    /// Adds a row.
    Insert,
    /// Changes the rows for which the condition holds to the query's row; adds it when none does.
    Upsert {
        /// ON.
        on: Match,
    },
    /// Sets columns of the rows for which the condition holds.
    Update {
        /// WHERE.
        on: Match,
        /// The table's columns, each with its new value.
        set: Vec<(usize, Expr)>,
    },
    /// Removes the rows for which the condition holds.
    Delete {
        /// WHERE.
        on: Match,
    },
}

impl Write {
    /// Every expression of it.
    pub fn exprs<'a>(&'a self, found: &mut Vec<&'a Expr>) {
        let on = match self {
            Write::Insert => return,
            Write::Upsert { on } | Write::Delete { on } => on,
            Write::Update { on, set } => {
                found.extend(set.iter().map(|(_, expr)| expr));
                on
            }
        };
        found.extend(on.keys.iter().map(|(_, expr)| expr));
        found.extend(&on.residual);
    }
}

/// Which rows of a table a row meets.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// Columns of the table that must equal expressions over the query's row.
    pub keys: Vec<(usize, Expr)>,
    /// What must hold besides; over the query's row and behind it the table's.
    pub residual: Option<Expr>,
}

/// A table: rows in memory, part of the state.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub schema: Arc<Schema>,
    /// Columns of the primary key; none: rows may repeat.
    pub primary_key: Vec<usize>,
    /// Sets of columns that are looked up by hash: declared ones, and what queries need.
    pub indexes: Vec<Vec<usize>>,
    /// How many rows it holds.
    pub rows_max: Option<u64>,
    /// What happens to the row beyond that.
    pub eviction: Eviction,
    /// How long a row lives behind its last change, in milliseconds.
    pub ttl_ms: Option<i64>,
    /// The stream that takes the rows which it refuses; none: they are counted only.
    pub letters: Option<StreamId>,
    /// The file that defines it.
    pub path: String,
    /// Where in it.
    pub place: Place,
}

/// What makes room in a full table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The row that has been read or changed least recently goes.
    Lru,
    /// The oldest row goes.
    Fifo,
    /// None: the new row is refused, and counted.
    Reject,
}

/// When a trigger fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerAt {
    /// Once, when its application first runs.
    Start,
    /// Every so many milliseconds from then on.
    Every(i64),
    /// At the instants of a cron expression, UTC.
    Cron(Cron),
}

/// A stream of one column, the time, that the clock fills.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// The stream.
    pub stream: StreamId,
    /// When.
    pub at: TriggerAt,
}

/// Queries of which each key has its own.
#[derive(Clone, Debug)]
pub struct Partition {
    /// How the rows of a stream find their keys. Rows of other streams reach every key there is.
    pub keys: Vec<(StreamId, PartitionKey)>,
    /// Its queries, by their place in [`super::Application::queries`].
    pub queries: Vec<usize>,
    /// Streams that each key has for itself.
    pub inner: Vec<StreamId>,
    /// A key that was silent for so long is forgotten, with all its state.
    pub idle_ms: Option<i64>,
    /// The file that defines it.
    pub path: String,
    /// Where in it.
    pub place: Place,
}

/// How a row finds its keys; over the stream's row.
#[derive(Clone, Debug)]
pub enum PartitionKey {
    /// The values of these. A row with a NULL among them belongs to no key.
    Values(Vec<Expr>),
    /// Every label whose condition holds, in order.
    Ranges(Vec<(Expr, String)>),
}

/// Rollups of a stream over durations.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// Its name.
    pub name: String,
    /// Which stream, which rows, and the columns that are read.
    pub input: StreamInput,
    /// The time of a row, which finds its bucket; over the kept columns. None: the row's time.
    pub by: Option<Expr>,
    /// GROUP BY; over the kept columns.
    pub keys: Vec<Expr>,
    /// What is computed per bucket and group.
    pub aggregates: Vec<Aggregate>,
    /// The columns it gives behind `AGG_TIMESTAMP`, over the group row: keys, then aggregates.
    pub select: Vec<Expr>,
    /// The durations that are kept, ascending.
    pub durations: Vec<Duration>,
    /// How many rows (a bucket's groups are a row each) there are at most, in all durations
    /// together.
    pub rows_max: u64,
    /// `AGG_TIMESTAMP BIGINT` and the selected columns.
    pub schema: Arc<Schema>,
    /// The file that defines it.
    pub path: String,
    /// Where in it.
    pub place: Place,
}

impl Aggregation {
    /// A number like [`super::Query::fingerprint`]. How long buckets are kept and how many there
    /// may be is not in it: an aggregation that is told to keep more keeps what it has.
    #[must_use]
    pub fn fingerprint(&self, application: &Application) -> u64 {
        super::fingerprint(&super::super::explain::aggregation_text(self, application))
    }
}

/// One of an aggregation's durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration {
    /// How long its buckets are.
    pub bucket: Bucket,
    /// A bucket that began so many milliseconds before the newest one goes. None: buckets stay.
    pub keep_ms: Option<i64>,
}

/// The length of an aggregation's buckets. Calendar lengths are those of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday.
    Week,
    /// A month of the calendar.
    Month,
    /// A year of the calendar.
    Year,
}

impl Bucket {
    /// Its word, in the plural.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Bucket::Second => "seconds",
            Bucket::Minute => "minutes",
            Bucket::Hour => "hours",
            Bucket::Day => "days",
            Bucket::Week => "weeks",
            Bucket::Month => "months",
            Bucket::Year => "years",
        }
    }
}

impl Partition {
    /// A number that is the same for partitions that mean the same; it covers their queries.
    #[must_use]
    pub fn fingerprint(&self, application: &Application) -> u64 {
        use std::fmt::Write as _;
        let mut text = String::from("partition");
        for (stream, key) in &self.keys {
            let _ = write!(
                text,
                " {}",
                super::super::explain::key(application, *stream, key)
            );
        }
        for number in &self.queries {
            let query = application.queries.get(*number);
            let print = query.map_or(0, |query| query.fingerprint(application));
            let _ = write!(text, " {print}");
        }
        super::fingerprint(&text)
    }
}

impl Table {
    /// A number that is the same for tables that mean the same; how it is looked up is not part
    /// of it.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        super::fingerprint(&format!(
            "table {} {} {:?} {:?} {:?} {:?}",
            self.name, self.schema, self.primary_key, self.rows_max, self.eviction, self.ttl_ms
        ))
    }
}

impl Trigger {
    /// A number that is the same for triggers that mean the same.
    #[must_use]
    pub fn fingerprint(&self, application: &Application) -> u64 {
        let stream = application.stream(self.stream);
        let name = stream.map_or("?", |stream| stream.name.as_str());
        let domains = super::Domains::new(application);
        let time = domains.written(domains.of(self.stream), application);
        super::fingerprint(&format!("trigger {name} {:?}{time}", self.at))
    }
}
