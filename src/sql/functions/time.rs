//! Functions that read clocks. All of them read the log's clock, so that a replay repeats them.

use super::{Function, PLAIN, Reads, Returns, Signature};
use crate::event::{Type, Value};

const NOTHING: Signature = Signature {
    parameters: &[],
    optional: 0,
    repeats: 0,
    result: Returns::Fixed(Type::Timestamp),
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        names: &["now", "current_timestamp"],
        signature: NOTHING,
        reads: Reads::Moment,
        eval: |moment, _| Some(Value::Int(moment.now.0)),
        doc: "now(): the engine's clock, which is the log's",
        example: ("now() - now()", "0"),
        ..PLAIN
    },
    Function {
        names: &["event_timestamp"],
        signature: NOTHING,
        reads: Reads::Moment,
        eval: |moment, _| Some(Value::Int(moment.time.0)),
        doc: "event_timestamp(): the time of the row",
        example: ("event_timestamp() - event_timestamp()", "0"),
        ..PLAIN
    },
];
