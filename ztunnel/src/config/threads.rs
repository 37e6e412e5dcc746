//! How many threads move bytes. Pure.
//!
//! A node proxy is one of many programs of its node: unless it is told otherwise it takes a quarter of
//! the processors, and never so few that one busy connection holds up all others.

use chassis::env::{Key, Reader, Value};

use super::keys::{
    ZTUNNEL_CPU_LIMIT, ZTUNNEL_RESOURCE_CPU_LIMIT, ZTUNNEL_RESOURCE_CPU_REQUEST, ZTUNNEL_WORKER_THREADS,
};

/// A Kubernetes quantity of processors (`2`, `1.5`, `500m`), rounded up to whole ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Processors(usize);

/// More threads than any machine has processors are a slip of the pen.
const THREADS_MAX: usize = 4096;

impl Value for Processors {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a number of processors such as 2, 1.5 or 500m, {THREADS_MAX} at most");
        let (number, part) = match text.strip_suffix('m') {
            Some(thousandths) => (thousandths, 1000.0),
            None => (text, 1.0),
        };
        let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
        let count = number.parse::<f64>().ok().filter(|_| plain).map(|count| (count / part).ceil());
        let count = count.filter(|count| (0.0..=THREADS_MAX as f64).contains(count)).ok_or_else(wrong)?;
        Ok(Self(count as usize))
    }
}

/// The threads that the settings ask for on a machine of so many processors.
pub(super) fn workers(reader: &mut Reader<'_>, processors: usize) -> usize {
    let given = |reader: &mut Reader<'_>, key: &Key<Processors>| reader.optional(key).map(|count| count.0);
    let processors = given(reader, &ZTUNNEL_CPU_LIMIT).filter(|limit| *limit > 0).unwrap_or(processors);
    let limit = given(reader, &ZTUNNEL_RESOURCE_CPU_LIMIT).filter(|limit| *limit > 0);
    let request = given(reader, &ZTUNNEL_RESOURCE_CPU_REQUEST).unwrap_or(0);
    let unasked = limit.unwrap_or_else(|| processors.div_ceil(4).max(2).max(request));
    let Some(text) = reader.optional(&ZTUNNEL_WORKER_THREADS) else { return unasked };
    let count = match text.strip_suffix('%').map(str::parse::<usize>) {
        Some(Ok(percent @ 1..=100)) => Some((processors * percent).div_ceil(100)),
        Some(_) => None,
        None => text.parse().ok().filter(|count| *count <= THREADS_MAX),
    };
    match count {
        Some(0) => processors,
        Some(count) => count,
        None => {
            reader.mistake(ZTUNNEL_WORKER_THREADS.row.name, &text, "expected a number, or 1% to 100%");
            unasked
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Settings as `WORKER_THREADS CPU_LIMIT RESOURCE_CPU_LIMIT RESOURCE_CPU_REQUEST`; `-` is not set.
    fn check(settings: &str, processors: usize, expected: Result<usize, &str>) {
        let names = [
            "ZTUNNEL_WORKER_THREADS",
            "ZTUNNEL_CPU_LIMIT",
            "ZTUNNEL_RESOURCE_CPU_LIMIT",
            "ZTUNNEL_RESOURCE_CPU_REQUEST",
        ];
        let set = names.into_iter().zip(settings.split(' ')).filter(|(_, value)| *value != "-");
        let strings: BTreeMap<String, String> = set.map(|(name, value)| (name.into(), value.into())).collect();
        let mut reader = Reader::new(&strings);
        let seen = workers(&mut reader, processors);
        match (reader.finish(), expected) {
            (Ok(()), Ok(expected)) => assert_eq!(seen, expected, "{settings} of {processors}"),
            (Err(mistakes), Err(name)) => assert!(mistakes.to_string().contains(name), "{settings}: {mistakes}"),
            (seen, expected) => panic!("{settings}: {seen:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn threads_are_a_quarter_of_the_processors_unless_somebody_says_otherwise() {
        check("- - - -", 1, Ok(2));
        check("- - - -", 16, Ok(4));
        check("- - - -", 17, Ok(5));
        check("- - - 200m", 16, Ok(4));
        check("- - - 6", 16, Ok(6));
        check("- - 500m 6", 16, Ok(1));
        check("- - 3 -", 16, Ok(3));
        check("- 8 - -", 64, Ok(2));
        check("3 8 2 6", 64, Ok(3));
        check("0 - - -", 16, Ok(16));
        check("0 8 - -", 16, Ok(8));
        check("50% - - -", 16, Ok(8));
        check("50% 4 - -", 16, Ok(2));
        check("1% - - -", 16, Ok(1));
    }

    #[test]
    fn what_is_no_number_of_threads_is_told() {
        for text in ["many", "-1", "0%", "101%", "%", "99999"] {
            check(&format!("{text} - - -"), 16, Err("ZTUNNEL_WORKER_THREADS"));
        }
        for text in ["two", "1Gi", "-2", "1e3", "99999", "m"] {
            check(&format!("- {text} - -"), 16, Err("ZTUNNEL_CPU_LIMIT"));
            check(&format!("- - - {text}"), 16, Err("ZTUNNEL_RESOURCE_CPU_REQUEST"));
        }
    }
}
