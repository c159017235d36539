//! The last pair of a range, found without walking backwards.
//!
//! sled walks backwards too, but keeps a key of 1 MiB in the program for that, which would be more
//! than a tenth of it. So the last pair is closed in on: what begins further and further before
//! the end is asked for its first pairs, until there are some, and then that is halved until they
//! are the last ones. Keys that number something are found after two or three such questions.

/// So many pairs are looked at before the rest is halved.
const WALK: usize = 16;
/// Of what follows the bytes that both ends share, so many count.
const DIGITS: usize = size_of::<u128>();

/// What there is between a key and the end.
enum Seen<K, V> {
    Nothing,
    /// The last pair.
    Last(K, V),
    /// More than was walked over; the last key that was.
    More(K),
}

/// The pair with the greatest key in `from <= key < to`; `pairs` gives those from a key up to `to`,
/// in order.
///
/// # Errors
/// The first that `pairs` gives.
pub(super) fn last<K, V, E, I>(
    from: &[u8],
    to: &[u8],
    pairs: impl Fn(&[u8]) -> I,
) -> Result<Option<(K, V)>, E>
where
    K: AsRef<[u8]>,
    I: Iterator<Item = Result<(K, V), E>>,
{
    let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let shared = to.get(..shared).unwrap_or(to);
    let begin = number(shared, from);
    let look = |start: u128| {
        let key = [shared, &start.to_be_bytes()].concat();
        match key.as_slice() {
            _ if start <= begin => walk(pairs(from), WALK),
            key if key >= to => Ok(Seen::Nothing),
            key => walk(pairs(key), WALK),
        }
    };
    // Nothing is at `high` or behind it, as soon as that was looked at; more than one pair is from
    // `low` on.
    let (mut high, mut back) = (number(shared, to), 0);
    let mut low = loop {
        let start = high.saturating_sub(back);
        match look(start)? {
            Seen::Last(key, value) => return Ok(Some((key, value))),
            Seen::More(key) => break key,
            Seen::Nothing if start <= begin => return Ok(None),
            Seen::Nothing => (high, back) = (start, (back << 8).max(1)),
        }
    };
    loop {
        let from = number(shared, low.as_ref());
        if high.saturating_sub(from) <= 1 {
            break;
        }
        let middle = from + (high - from) / 2;
        match look(middle)? {
            Seen::Last(key, value) => return Ok(Some((key, value))),
            Seen::More(key) => low = key,
            Seen::Nothing => high = middle,
        }
    }
    // What is left differs only behind the digits.
    let mut last = None;
    for pair in pairs(low.as_ref()) {
        last = Some(pair?);
    }
    Ok(last)
}

/// What follows the shared bytes, as a number.
fn number(shared: &[u8], key: &[u8]) -> u128 {
    let rest = key.get(shared.len()..).unwrap_or_default();
    let digits = rest.iter().chain(std::iter::repeat(&0)).take(DIGITS);
    digits.fold(0, |number, digit| number << 8 | u128::from(*digit))
}

fn walk<K, V, E>(
    pairs: impl Iterator<Item = Result<(K, V), E>>,
    most: usize,
) -> Result<Seen<K, V>, E> {
    let mut seen = Seen::Nothing;
    for (before, pair) in (0..).zip(pairs) {
        let (key, value) = pair?;
        if before == most {
            return Ok(Seen::More(key));
        }
        seen = Seen::Last(key, value);
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    type Map = BTreeMap<Vec<u8>, usize>;

    /// The answer, and how many pairs were looked at for it.
    fn found(map: &Map, from: &[u8], to: &[u8]) -> (Option<usize>, usize) {
        let looked = Cell::new(0);
        let last = last(from, to, |start| {
            let pairs = map.range(start.to_vec()..to.to_vec());
            pairs.map(|(key, value)| {
                looked.set(looked.get() + 1);
                Ok::<_, Infallible>((key.clone(), value))
            })
        });
        let Ok(last) = last;
        (last.map(|(_, value)| *value), looked.get())
    }

    /// Keys that are close together, that begin another, or that differ only far behind.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let digit = prop_oneof![0..3_u8, Just(254), Just(255)];
        let short = prop::collection::vec(digit, 0..5);
        (short, any::<bool>(), 0..3_u8).prop_map(|(mut key, is_long, end)| {
            if is_long {
                key.extend([0; 18]);
                key.push(end);
            }
            key
        })
    }

    proptest! {
        #[test]
        fn the_last_pair_is_found(
            keys in prop::collection::vec(key(), 0..200),
            from in key(),
            to in key(),
        ) {
            let map: Map = keys.into_iter().zip(0..).collect();
            prop_assume!(from < to);
            let expected = map.range(from.clone()..to.clone()).next_back();
            let (found, _) = found(&map, &from, &to);
            prop_assert_eq!(found, expected.map(|(_, value)| *value));
        }
    }

    #[test]
    fn few_pairs_are_looked_at() {
        let key = |number: u64| [&[b'L'][..], &number.to_be_bytes()].concat();
        let map: Map = (0..100_000).map(|n| (key(n * 100), 0)).collect();
        let near = found(&map, &key(0), &key(5_000_050)).1;
        assert!(near <= WALK, "{near} pairs for a number that the log has");
        let end = found(&map, b"L", b"M").1;
        assert!(end <= 64 * WALK, "{end} pairs for the end of the log");
    }
}
