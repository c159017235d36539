//! Which queries read the same through the same filter and window.

use super::{Access, Analytics, Application, Emit, Input, Query, StreamInput, Window};

impl Application {
    /// For each query, the number of the first one with the same filter and window over the same
    /// stream: these need only one window. None: there is no other.
    #[must_use]
    pub fn shared_feeds(&self) -> Vec<Option<usize>> {
        let feeds: Vec<_> = self.queries.iter().map(Feed::of).collect();
        let mut firsts: Vec<Option<usize>> = Vec::with_capacity(feeds.len());
        let mut several = vec![false; feeds.len()];
        for (number, feed) in feeds.iter().enumerate() {
            let first = feed.as_ref().and_then(|feed| {
                let mut before = feeds.iter().take(number);
                before.position(|other| other.as_ref().is_some_and(|other| other.is_same(feed)))
            });
            for place in first.into_iter().chain([number]) {
                if let Some(several) = several.get_mut(place) {
                    *several |= first.is_some();
                }
            }
            firsts.push(first);
        }
        let firsts = firsts.into_iter().enumerate().zip(several);
        let firsts =
            firsts.map(|((number, first), several)| several.then_some(first.unwrap_or(number)));
        firsts.collect()
    }
}

/// What a query reads, when others may read it with it.
struct Feed<'a> {
    input: &'a StreamInput,
    analytics: &'a Analytics,
    partition: Option<usize>,
    /// Whether rows that leave are seen at the moment at which they do.
    seen: bool,
}

impl Feed<'_> {
    /// None: the query must read by itself. What it looks up can change between two queries, and a
    /// snapshot may be due before the rows of the same moment.
    fn of(query: &Query) -> Option<Feed<'_>> {
        let Input::Stream(input) = &query.input else {
            return None;
        };
        let computes = input.filter.is_some() || !query.analytics.is_empty();
        let works = input.window.is_some() || computes;
        let looks_up = query
            .stores()
            .iter()
            .any(|(_, access)| *access == Access::Reads);
        (works && !looks_up && !query.shows_snapshots()).then_some(Feed {
            input,
            analytics: &query.analytics,
            partition: query.partition,
            seen: query.emit != Emit::Current,
        })
    }

    fn is_same(&self, other: &Feed<'_>) -> bool {
        let alike = self.input.stream == other.input.stream
            && self.partition == other.partition
            && self.seen == other.seen
            && self.analytics == other.analytics;
        if !alike {
            return false;
        }
        if self.input.keeps_rows() {
            return self.input == other.input;
        }
        // Whole rows come through, of which each reads what it needs.
        let of = |input: &StreamInput| StreamInput {
            keep: Vec::new(),
            ..input.clone()
        };
        of(self.input) == of(other.input)
    }
}

impl StreamInput {
    /// Whether anything before the query itself depends on the kept columns.
    fn keeps_rows(&self) -> bool {
        let whole = match &self.window {
            None => true,
            Some(window) => matches!(
                window,
                Window::LengthBatch { .. }
                    | Window::TimeBatch { .. }
                    | Window::Tumbling { .. }
                    | Window::Cron { .. }
            ),
        };
        !whole || self.behind.is_some()
    }
}
