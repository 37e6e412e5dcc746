//! Routes by path, so that one of five thousand is found at the cost of one.
//!
//! All matches of all routes stand in one order, the first that agrees wins. A request is
//! compared only with those whose path agrees already: a lookup for its whole path, and one for
//! each length that a prefix has. Expressions, and matches that ask for no path, are compared one
//! by one.

use super::{
    Unusable,
    head::Head,
    http::{HttpMatch, HttpRoute, HttpRule, Precedence},
    matcher::{Matcher, without_slash},
    text::PathMatch,
};
use crate::Str;
use std::{cmp::Reverse, collections::HashMap};

/// A match of a rule of a route, by their places. A rule without matches has one at no place.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) route: usize,
    pub(super) rule: usize,
    pub(super) matched: Option<usize>,
    matcher: Option<Matcher>,
    ports: Vec<u16>,
}

impl Candidate {
    fn is_for(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }
}

/// Places in the order of all candidates.
type Places = Vec<u32>;

/// The routes for one group of callers.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    candidates: Vec<Candidate>,
    exact: HashMap<Str, Places>,
    /// Prefixes of whole elements, without the `/` at their end.
    elements: Prefixes,
    prefixes: Prefixes,
    scanned: Places,
    /// Ports that there are routes for; none: all.
    ports: Option<Vec<u16>>,
}

/// Prefixes, and the lengths they have, longest first.
#[derive(Clone, Debug, Default)]
struct Prefixes {
    by_text: HashMap<Str, Places>,
    lengths: Vec<usize>,
}

impl Prefixes {
    fn put(&mut self, prefix: &str, place: u32) {
        if let Err(at) = self.lengths.binary_search_by_key(&Reverse(prefix.len()), |length| Reverse(*length)) {
            self.lengths.insert(at, prefix.len());
        }
        self.by_text.entry(prefix.into()).or_default().push(place);
    }

    /// The places of each prefix that a path has, where `ends` says that one may end.
    fn of<'a>(&'a self, path: &'a str, ends: impl Fn(usize) -> bool + 'a) -> impl Iterator<Item = &'a Places> {
        let lengths = self.lengths.iter().copied().filter(move |length| ends(*length));
        lengths.filter_map(move |length| self.by_text.get(path.get(..length)?))
    }
}

impl Index {
    /// The index of these routes, with the place that each has among all.
    pub(super) fn new(routes: &[(usize, &HttpRoute)]) -> Result<Self, Unusable> {
        let mut ordered = Vec::new();
        for &(at, route) in routes {
            for (number, rule) in route.rules.iter().enumerate() {
                ordered.extend(candidates(at, route, number, rule)?);
            }
        }
        ordered.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut index = Self { ports: Some(Vec::new()), ..Self::default() };
        for (place, (_, (wanted, candidate))) in ordered.into_iter().enumerate() {
            index.put(wanted, u32::try_from(place).unwrap_or(u32::MAX));
            index.candidates.push(candidate);
        }
        for (_, route) in routes {
            match &mut index.ports {
                Some(ports) if !route.ports.is_empty() => ports.extend(&route.ports),
                every => *every = None,
            }
        }
        if let Some(ports) = &mut index.ports {
            ports.sort_unstable();
            ports.dedup();
        }
        Ok(index)
    }

    fn put(&mut self, wanted: Option<&HttpMatch>, place: u32) {
        let path = wanted.filter(|wanted| !wanted.path_ignore_case).and_then(|wanted| wanted.path.as_ref());
        match path {
            Some(PathMatch::Exact(path)) => self.exact.entry(path.clone()).or_default().push(place),
            Some(PathMatch::PathPrefix(prefix)) => self.elements.put(without_slash(prefix), place),
            Some(PathMatch::Prefix(prefix)) => self.prefixes.put(prefix, place),
            Some(PathMatch::Regex(_)) | None => self.scanned.push(place),
        }
    }

    /// Whether there are routes for a port.
    pub(super) fn serves(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }

    /// The first candidate that agrees.
    pub(super) fn find(&self, head: &Head<'_>) -> Option<&Candidate> {
        let mut best: Option<u32> = None;
        for places in self.of_path(head.path) {
            best = self.better(places, best, |matcher| matcher.is_beside_path(head), head.port);
        }
        best = self.better(&self.scanned, best, |matcher| matcher.is(head), head.port);
        self.candidates.get(best? as usize)
    }

    /// Whose path agrees.
    fn of_path<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Places> {
        let ends_element = |length: usize| matches!(path.as_bytes().get(length), None | Some(b'/'));
        let prefixes = self.elements.of(path, ends_element).chain(self.prefixes.of(path, |_| true));
        self.exact.get(path).into_iter().chain(prefixes)
    }

    /// How many candidates a request for a path is compared with at most.
    #[cfg(test)]
    pub(super) fn compared(&self, path: &str) -> usize {
        self.of_path(path).map(Vec::len).sum::<usize>() + self.scanned.len()
    }

    /// The first of these places, if it is before the best so far.
    fn better(&self, places: &Places, best: Option<u32>, agrees: impl Fn(&Matcher) -> bool, port: u16) -> Option<u32> {
        let before = places.iter().take_while(|place| best.is_none_or(|best| **place < best));
        let mut agreeing = before.filter(|place| {
            let found = self.candidates.get(**place as usize);
            found.is_some_and(|one| one.is_for(port) && one.matcher.as_ref().is_none_or(&agrees))
        });
        agreeing.next().copied().or(best)
    }
}

/// Where a candidate stands; the smaller is asked first. See [`super::http`] for what it says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    precedence: Listing,
    path: Reverse<(u8, usize)>,
    method: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    /// Not said, then when.
    created: (bool, Option<Str>),
    /// `namespace/name`, then the kind.
    name: (String, Str),
    rule: usize,
    matched: usize,
}

/// [`Precedence`], in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Listing {
    Specific,
    Listed,
}

type Ordered<'a> = (Standing, (Option<&'a HttpMatch>, Candidate));

fn candidates<'a>(
    at: usize,
    route: &'a HttpRoute,
    number: usize,
    rule: &'a HttpRule,
) -> Result<Vec<Ordered<'a>>, Unusable> {
    let candidate = |matched: Option<usize>, matcher| Candidate {
        route: at,
        rule: number,
        matched,
        matcher,
        ports: route.ports.clone(),
    };
    if rule.matches.is_empty() {
        return Ok(vec![(standing(route, number, None, 0), (None, candidate(None, None)))]);
    }
    let place = format!("{}, rule {number}", route.name);
    let matchers = Matcher::alternatives(&rule.matches, &place)?;
    let numbered = rule.matches.iter().zip(matchers).enumerate();
    let ordered = numbered.map(|(at, (wanted, matcher))| {
        (standing(route, number, Some(wanted), at), (Some(wanted), candidate(Some(at), Some(matcher))))
    });
    Ok(ordered.collect())
}

fn standing(route: &HttpRoute, rule: usize, wanted: Option<&HttpMatch>, matched: usize) -> Standing {
    // Of a listed route only its age and the order of its rules count.
    let counted = wanted.filter(|_| route.precedence == Precedence::Specific);
    Standing {
        precedence: match route.precedence {
            Precedence::Specific => Listing::Specific,
            Precedence::Listed => Listing::Listed,
        },
        path: Reverse(counted.and_then(|wanted| wanted.path.as_ref()).map_or((0, 0), path_standing)),
        method: Reverse(counted.is_some_and(|wanted| wanted.method.is_some())),
        headers: Reverse(counted.map_or(0, |wanted| wanted.headers.len())),
        query: Reverse(counted.map_or(0, |wanted| wanted.query.len())),
        created: (route.created.is_none(), route.created.clone()),
        name: (route.name.split_once('/').map_or("", |(_, name)| name).to_owned(), route.name.clone()),
        rule,
        matched,
    }
}

/// How much a path says: its kind, and of a prefix its length.
fn path_standing(path: &PathMatch) -> (u8, usize) {
    match path {
        PathMatch::Exact(_) => (3, 0),
        PathMatch::PathPrefix(prefix) => (2, without_slash(prefix).chars().count()),
        PathMatch::Prefix(prefix) => (2, prefix.chars().count()),
        PathMatch::Regex(_) => (1, 0),
    }
}
