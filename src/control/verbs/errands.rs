//! What the pipeline is asked for, waited for within bounds.

use std::time::{Duration, Instant};

use crossbeam::channel::{RecvTimeoutError, SendTimeoutError, Sender};

use serde_json::{Value, json};

use crate::control::{Code, Fault};
use crate::daemon::View;
use crate::pipeline::{Answer, Command, Errand, Undone, answer};

/// How long something is waited for that the pipeline does between two turns.
pub(super) const SOON: Duration = Duration::from_secs(5);
/// How long something is waited for that has to become durable.
pub(super) const DURABLE: Duration = Duration::from_secs(30);

/// Has the pipeline do something, and waits for it. What it has not begun when the time is over, it
/// does not begin any more.
pub(super) fn run<T>(
    commands: &Sender<Command>,
    within: Duration,
    errand: impl FnOnce(Answer<T>) -> Errand,
) -> Result<T, Fault> {
    let until = Instant::now() + within;
    let (answer, answered) = answer();
    let command = Command::Errand(errand(answer));
    commands
        .send_deadline(command, until)
        .map_err(|error| match error {
            SendTimeoutError::Timeout(_) => late(within),
            SendTimeoutError::Disconnected(_) => stopping(),
        })?;
    match answered.wait_until(until) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(undone)) => Err(fault_of(&undone)),
        Err(RecvTimeoutError::Timeout) => Err(late(within)),
        Err(RecvTimeoutError::Disconnected) => Err(Fault::new(
            Code::Failed,
            "the store failed meanwhile, or the configuration changed; ask again",
        )),
    }
}

/// `checkpoint.now`: everything so far, durable when it is answered.
pub(super) fn checkpoint(view: &View) -> Result<Value, Fault> {
    let through = run(&view.commands, DURABLE, |answer| Errand::Checkpoint {
        answer,
    })?;
    Ok(json!({ "seq": through.0 }))
}

fn fault_of(undone: &Undone) -> Fault {
    let code = match undone {
        Undone::NoSink | Undone::NoStream => Code::NotFound,
        Undone::TooMany => Code::Busy,
        Undone::Stopping => Code::Stopping,
        Undone::Failed { .. } => Code::Failed,
    };
    Fault::new(code, undone.to_string())
}

fn late(within: Duration) -> Fault {
    let seconds = within.as_secs();
    let message = format!(
        "it was not done within {seconds} s: the store may be closed or slow; it may still come \
         about if it was begun"
    );
    Fault::new(Code::Busy, message)
}

fn stopping() -> Fault {
    Fault::new(Code::Stopping, "the daemon is stopping")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::bounded;

    const SHORT: Duration = Duration::from_millis(10);

    fn checkpoint(commands: &Sender<Command>) -> Code {
        let asked = run(commands, SHORT, |answer| Errand::Checkpoint { answer });
        asked.unwrap_err().code
    }

    #[test]
    fn nothing_is_waited_for_without_end() {
        let (commands, todo) = bounded(1);
        // The first lies there, and for the second there is no room.
        assert_eq!(checkpoint(&commands), Code::Busy);
        assert_eq!(checkpoint(&commands), Code::Busy);
        assert_eq!(todo.len(), 1);
        let asked = std::thread::scope(|scope| {
            let asked =
                scope.spawn(|| run(&commands, DURABLE, |answer| Errand::Checkpoint { answer }));
            // Taken, and let go of without a word.
            drop([todo.recv().unwrap(), todo.recv().unwrap()]);
            asked.join().unwrap()
        });
        assert_eq!(asked.unwrap_err().code, Code::Failed);
        drop(todo);
        assert_eq!(checkpoint(&commands), Code::Stopping);
    }
}
