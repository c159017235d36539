//! How long a server asks us to wait.

use std::time::Duration;

use hyper::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// What `Retry-After` says, in either of its forms. A date counts from the answer's own `Date`, so
/// that our clock need not be right; without that it says nothing.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let wait = date(headers, RETRY_AFTER)?.duration_since(date(headers, DATE)?);
    // What lies behind asks for no wait at all.
    Some(wait.try_into().unwrap_or_default())
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<Timestamp> {
    let text = headers.get(name)?.to_str().ok()?;
    DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates() {
        const SENT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        let cases = [
            ("120", None, Some(120)),
            (" 0 ", None, Some(0)),
            ("-1", None, None),
            ("soon", Some(SENT), None),
            ("Sun, 06 Nov 1994 08:49:49 GMT", Some(SENT), Some(12)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(SENT), Some(0)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(SENT), Some(0)),
            ("Sun, 06 Nov 1994 08:49:49 GMT", None, None),
        ];
        for (asked, sent, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, asked.parse().unwrap());
            if let Some(sent) = sent {
                headers.insert(DATE, sent.parse().unwrap());
            }
            let seconds = retry_after(&headers).map(|wait| wait.as_secs());
            assert_eq!(seconds, expected, "{asked} {sent:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
