//! Expressions that could not be computed, such as a division by zero: counted, and told in the log
//! the more seldom the more of them there are.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::engine::Faults;
use crate::observe::PipelineMetrics;

/// How often it has happened, by where.
#[derive(Default)]
pub(super) struct Computed(BTreeMap<String, u64>);

impl Computed {
    /// Counts `some`, and tells of those whose number has doubled since it was told last.
    pub(super) fn tell(&mut self, some: Vec<Faults>, metrics: &PipelineMetrics) {
        for Faults {
            query,
            place,
            count,
        } in some
        {
            metrics.faults.fetch_add(count, Ordering::Relaxed);
            let before = self.0.get(&place).copied().unwrap_or(0);
            let now = before.saturating_add(count);
            if has_doubled(before, now) {
                tracing::warn!(
                    query,
                    count = now,
                    "{place}: an expression could not be computed and became NULL"
                );
            }
            self.0.insert(place, now);
        }
    }
}

/// Whether a power of two lies behind `before` and not behind `now`.
fn has_doubled(before: u64, now: u64) -> bool {
    now.checked_ilog2() != before.checked_ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_seldom() {
        let told: Vec<u64> = (0..100)
            .filter(|before| has_doubled(*before, before + 1))
            .map(|before| before + 1)
            .collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64]);
        assert!(has_doubled(3, 1000));
        assert!(!has_doubled(5, 7));
    }
}
