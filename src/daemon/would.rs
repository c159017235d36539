//! Whether a running daemon would go over to a configuration, without anything being touched.

use std::time::Duration;

use crossbeam::channel::bounded;

use super::change::{Refused, fixed};
use super::{Prepared, View};
use crate::config::StatePolicy;
use crate::pipeline::Command;

/// How long the pipeline may take to answer: it may be opening its store again.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl View {
    /// Whether it would.
    ///
    /// # Errors
    /// What it would say.
    pub fn would_take(&self, prepared: &Prepared) -> Result<(), Refused> {
        if prepared.application.streams.is_empty() && !self.application.streams.is_empty() {
            return Err(Refused::Empty);
        }
        fixed(&self.settings, &prepared.settings)?;
        if prepared.settings.application.state_policy != StatePolicy::KeepOrFail {
            return Ok(());
        }
        let (answer, answered) = bounded(1);
        let command = Command::WouldKeep(prepared.wanted(), answer);
        let sent = self.commands.send_timeout(command, ANSWER_WITHIN);
        sent.map_err(|_| Refused::Stopping)?;
        // Who does not answer is asked again when it is put in force.
        match answered.recv_timeout(ANSWER_WITHIN) {
            Ok(kept) => Ok(kept?),
            Err(_) => Ok(()),
        }
    }
}
