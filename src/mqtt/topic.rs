//! Topics and topic filters (MQTT 3.1.1 and 5, section 4.7), and filters whose levels are columns.

use crate::event::Value;

/// The longest text that the protocol can carry.
const TEXT_BYTES_MAX: usize = 65_535;

/// Whether `filter` is a topic filter, a shared one (`$share/<group>/<filter>`) included.
#[must_use]
pub fn is_filter(filter: &str) -> bool {
    let is_text = !filter.contains('\0') && filter.len() <= TEXT_BYTES_MAX;
    is_text && is_share(filter) && rumqttc::valid_filter(own_filter(filter))
}

/// A shared filter names its group, without wildcards; any other filter is none.
fn is_share(filter: &str) -> bool {
    match filter.strip_prefix("$share/") {
        None => true,
        Some(rest) => rest
            .split_once('/')
            .is_some_and(|(group, _)| !group.is_empty() && !group.contains(['+', '#'])),
    }
}

/// Whether `topic` is a topic that can be published to.
#[must_use]
pub fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= TEXT_BYTES_MAX && !topic.contains(['+', '#', '\0'])
}

/// The filter without `$share/<group>/`.
fn own_filter(filter: &str) -> &str {
    filter
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'))
        .map_or(filter, |(_, own)| own)
}

/// A filter to subscribe to, some of whose levels may go into columns: `plant/{line}/+/temp`
/// subscribes `plant/+/+/temp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What the broker is told.
    written: String,
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    /// This text.
    Text(String),
    /// `+`.
    Any,
    /// `#`, at the end.
    Rest,
    /// Anything, which a column takes.
    Column(usize, Kind),
}

/// What a column takes of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The text.
    Text,
    /// A whole number between two bounds.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
}

/// A level that its column cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Not a whole number.
    #[error("the topic's level `{0}` is not a whole number")]
    NoNumber(String),
    /// A number that the column's type does not hold.
    #[error("the topic's level `{0}` is out of the column's range")]
    OutOfRange(String),
}

impl Filter {
    /// Parses a filter; `column` says which column a name means, and what it takes.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn parse(
        text: &str,
        mut column: impl FnMut(&str) -> Result<(usize, Kind), String>,
    ) -> Result<Filter, String> {
        let own = own_filter(text);
        let mut levels = Vec::new();
        for level in own.split('/') {
            let name = level
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            levels.push(match (level, name) {
                (_, Some(name)) => {
                    let (index, kind) = column(name.trim())?;
                    Level::Column(index, kind)
                }
                ("+", None) => Level::Any,
                ("#", None) => Level::Rest,
                (level, None) if level.contains(['{', '}']) => {
                    return Err(format!(
                        "a column takes a whole level: `{{name}}`, not `{level}`"
                    ));
                }
                (level, None) => Level::Text(level.to_owned()),
            });
        }
        let shared = text.strip_suffix(own).unwrap_or_default();
        let levels_written: Vec<&str> = levels.iter().map(Level::written).collect();
        let written = format!("{shared}{}", levels_written.join("/"));
        if is_filter(&written) {
            Ok(Filter { written, levels })
        } else {
            Err(format!("`{text}` is not a topic filter"))
        }
    }

    /// What the broker is told.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The columns that it fills.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.levels.iter().filter_map(|level| match level {
            Level::Column(index, _) => Some(*index),
            Level::Text(_) | Level::Any | Level::Rest => None,
        })
    }

    /// Whether a message on `topic` belongs to it.
    /// (`rumqttc::matches` is not used: it panics on a topic that begins with `é` and never
    /// matches one that begins with `$`.)
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let begins_open = !matches!(self.levels.first(), Some(Level::Text(_)));
        if topic.starts_with('$') && begins_open {
            return false;
        }
        let mut parts = topic.split('/');
        for level in &self.levels {
            let part = match level {
                Level::Rest => return true,
                Level::Text(_) | Level::Any | Level::Column(..) => parts.next(),
            };
            match (level, part) {
                (_, None) => return false,
                (Level::Text(wanted), Some(part)) if wanted != part => return false,
                (_, Some(_)) => {}
            }
        }
        parts.next().is_none()
    }

    /// Appends what the columns take of a topic that matches.
    ///
    /// # Errors
    /// The first level that its column cannot take.
    pub fn fill(&self, topic: &str, into: &mut Vec<(usize, Value)>) -> Result<(), Misfit> {
        for (level, part) in self.levels.iter().zip(topic.split('/')) {
            if let Level::Column(index, kind) = level {
                into.push((*index, kind.value(part)?));
            }
        }
        Ok(())
    }
}

impl Level {
    fn written(&self) -> &str {
        match self {
            Level::Text(text) => text,
            Level::Any | Level::Column(..) => "+",
            Level::Rest => "#",
        }
    }
}

impl Kind {
    fn value(self, part: &str) -> Result<Value, Misfit> {
        match self {
            Kind::Text => Ok(Value::text(part)),
            Kind::Integer { min, max } => {
                let digits = part.strip_prefix('-').unwrap_or(part);
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(Misfit::NoNumber(part.to_owned()));
                }
                match part.parse::<i64>() {
                    Ok(number) if (min..=max).contains(&number) => Ok(Value::Int(number)),
                    Ok(_) | Err(_) => Err(Misfit::OutOfRange(part.to_owned())),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Filter {
        Filter::parse(text, |name| Err(format!("no `{name}`"))).unwrap()
    }

    /// Whether the broker would deliver `topic` for `filter`.
    fn matches(filter: &str, topic: &str) -> bool {
        plain(filter).matches(topic)
    }

    #[test]
    fn filters_and_topics() {
        assert!(is_filter("plant/+/temp") && is_filter("#") && is_filter("$share/g/a/#"));
        assert!(!is_filter("") && !is_filter("a/#/b") && !is_filter("a+"));
        assert!(!is_filter("$share/g") && !is_filter("$share//a") && !is_filter("$share/+/a"));
        assert!(is_topic("a/b") && !is_topic("a/+") && !is_topic(""));
        assert!(matches("$share/g/plant/+", "plant/7"));
        assert!(matches("plant/#", "plant") && matches("plant/#", "plant/a/b"));
        assert!(!matches("plant/+", "plant/7/temp") && !matches("plant/+", "plant"));
        assert!(matches("$SYS/#", "$SYS/uptime") && !matches("#", "$SYS/uptime"));
        assert!(!matches("+/uptime", "$SYS/uptime"));
        assert!(matches("+/x", "é/x") && matches("#", "é") && matches("a//+", "a//"));
    }

    #[test]
    fn levels_become_columns() {
        let column = |name: &str| match name {
            "line" => Ok((3, Kind::Text)),
            "device" => Ok((
                1,
                Kind::Integer {
                    min: i64::from(i32::MIN),
                    max: i64::from(i32::MAX),
                },
            )),
            other => Err(format!("the stream has no column `{other}`")),
        };
        let filter = Filter::parse("$share/g/plant/{line}/{ device }/#", column).unwrap();
        assert_eq!(filter.as_str(), "$share/g/plant/+/+/#");
        assert_eq!(filter.columns().collect::<Vec<_>>(), [3, 1]);
        let mut into = Vec::new();
        assert!(filter.matches("plant/é/-7/temp"));
        filter.fill("plant/é/-7/temp", &mut into).unwrap();
        assert_eq!(into, [(3, Value::text("é")), (1, Value::Int(-7))]);
        let table = [
            ("plant/a/x7/t", Misfit::NoNumber("x7".to_owned())),
            ("plant/a/+7/t", Misfit::NoNumber("+7".to_owned())),
            ("plant/a//t", Misfit::NoNumber(String::new())),
            (
                "plant/a/2147483648/t",
                Misfit::OutOfRange("2147483648".to_owned()),
            ),
        ];
        for (topic, misfit) in table {
            assert_eq!(filter.fill(topic, &mut Vec::new()), Err(misfit), "{topic}");
        }
        for bad in ["plant/{nobody}", "plant/x{line}", "{line}/#/a"] {
            assert!(Filter::parse(bad, column).is_err(), "{bad}");
        }
    }
}
