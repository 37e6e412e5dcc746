//! One VirtualService that leaves the rest to another: what both ask for, together.
//!
//! The rules are Istio's: each match of the delegate must ask for no more than one of the root's
//! allows, and what the delegate does not say the root says.

use crate::facts::VirtualRoute;
use mesh::{
    Str,
    route::{
        HttpRule,
        http::{Action, HttpMatch},
        text::{FieldMatch, PathMatch, TextMatch},
    },
};

/// The rules of a route and those it is delegated to; and the names of those that conflict with it.
pub(super) fn merge(root: &HttpRule, delegate: &[VirtualRoute]) -> (Vec<HttpRule>, Vec<Str>) {
    let (mut merged, mut conflicts) = (Vec::new(), Vec::new());
    for route in delegate {
        match matches(&root.matches, &route.rule.matches) {
            Some(matches) => merged.push(rule(root, &route.rule, matches)),
            None => conflicts.push(route.rule.name.clone()),
        }
    }
    (merged, conflicts)
}

fn rule(root: &HttpRule, own: &HttpRule, matches: Vec<HttpMatch>) -> HttpRule {
    let mut merged = own.clone();
    merged.matches = matches;
    merged.name = format!("{}-{}", root.name, own.name).into();
    let (filters, wide) = (&mut merged.filters, &root.filters);
    if filters.rewrite == Default::default() {
        filters.rewrite = wide.rewrite.clone();
    }
    if filters.mirrors.is_empty() {
        filters.mirrors.clone_from(&wide.mirrors);
    }
    if filters.cors.is_none() {
        filters.cors.clone_from(&wide.cors);
    }
    if filters.request_headers.is_empty() && filters.response_headers.is_empty() {
        filters.request_headers = wide.request_headers.clone();
        filters.response_headers = wide.response_headers.clone();
    }
    if merged.action == Action::default() {
        merged.action = root.action.clone();
    }
    merged.timeouts.request = merged.timeouts.request.or(root.timeouts.request);
    merged.retry = merged.retry.or_else(|| root.retry.clone());
    if merged.faults.is_empty() {
        merged.faults.clone_from(&root.faults);
    }
    merged
}

/// The matches of both; `None` when one of the delegate's is within none of the root's.
fn matches(root: &[HttpMatch], own: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    match (root, own) {
        ([], own) => Some(own.to_vec()),
        (root, []) => Some(root.to_vec()),
        (root, own) => {
            let mut all = Vec::new();
            for own in own {
                let before = all.len();
                all.extend(root.iter().filter(|root| within(root, own)).map(|root| both(root, own)));
                if all.len() == before {
                    return None;
                }
            }
            Some(all)
        }
    }
}

fn within(root: &HttpMatch, own: &HttpMatch) -> bool {
    let paths = match (&root.path, &own.path) {
        (Some(root), Some(own)) => text_within(&path(root), &path(own)),
        _ => true,
    };
    let texts = [(&root.scheme, &own.scheme), (&root.method, &own.method), (&root.authority, &own.authority)];
    let texts = texts.into_iter().all(|pair| match pair {
        (Some(root), Some(own)) => text_within(root, own),
        _ => true,
    });
    let fields =
        [(&root.headers, &own.headers), (&root.without_headers, &own.without_headers), (&root.query, &own.query)];
    let fields = fields.into_iter().all(|(root, own)| {
        own.iter().all(|own| {
            let same = root.iter().find(|root| root.name == own.name);
            same.is_none_or(|root| text_within(&root.value, &own.value))
        })
    });
    let claims = own.claims.iter().all(|(name, own)| {
        let same = root.claims.iter().find(|(root, _)| root == name);
        same.is_none_or(|(_, root)| text_within(root, own))
    });
    let ports = root.ports.is_empty() || own.ports.is_empty() || root.ports == own.ports;
    let callers = match (&root.caller_namespace, &own.caller_namespace) {
        (Some(root), Some(own)) => root == own,
        _ => true,
    };
    // Of a match without a path nobody knows whether it heeds case, and so does Istio's own check.
    let case = root.path.is_none() || own.path.is_none() || root.path_ignore_case == own.path_ignore_case;
    paths && texts && fields && claims && ports && callers && case
}

fn path(path: &PathMatch) -> TextMatch {
    match path {
        PathMatch::Exact(text) => TextMatch::Exact(text.clone()),
        PathMatch::PathPrefix(text) | PathMatch::Prefix(text) => TextMatch::Prefix(text.clone()),
        PathMatch::Regex(text) => TextMatch::Regex(text.clone()),
    }
}

/// Whether every text that `own` takes is one that `root` takes, as far as can be told.
fn text_within(root: &TextMatch, own: &TextMatch) -> bool {
    match (root, own) {
        (TextMatch::Present, _) => true,
        (TextMatch::Exact(root), TextMatch::Exact(own)) => root == own,
        (TextMatch::Prefix(root), TextMatch::Exact(own) | TextMatch::Prefix(own)) => own.starts_with(&**root),
        _ => false,
    }
}

fn both(root: &HttpMatch, own: &HttpMatch) -> HttpMatch {
    let by_root = own.path.is_none();
    HttpMatch {
        path: own.path.clone().or_else(|| root.path.clone()),
        path_ignore_case: if by_root { root.path_ignore_case } else { own.path_ignore_case },
        method: own.method.clone().or_else(|| root.method.clone()),
        headers: fields(&root.headers, &own.headers),
        without_headers: fields(&root.without_headers, &own.without_headers),
        query: fields(&root.query, &own.query),
        authority: own.authority.clone().or_else(|| root.authority.clone()),
        scheme: own.scheme.clone().or_else(|| root.scheme.clone()),
        ports: if own.ports.is_empty() { root.ports.clone() } else { own.ports.clone() },
        caller_namespace: own.caller_namespace.clone().or_else(|| root.caller_namespace.clone()),
        claims: {
            let others = root.claims.iter().filter(|(name, _)| !own.claims.iter().any(|(own, _)| own == name));
            own.claims.iter().chain(others).cloned().collect()
        },
    }
}

fn fields(root: &[FieldMatch], own: &[FieldMatch]) -> Vec<FieldMatch> {
    let others = root.iter().filter(|root| !own.iter().any(|own| own.name == root.name));
    own.iter().chain(others).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: PathMatch) -> HttpMatch {
        HttpMatch { path: Some(path), ..HttpMatch::default() }
    }

    fn ported(port: u16) -> HttpMatch {
        HttpMatch { ports: vec![port], ..HttpMatch::default() }
    }

    fn both_of(root: &HttpMatch, own: &HttpMatch) -> Option<Vec<HttpMatch>> {
        matches(std::slice::from_ref(root), std::slice::from_ref(own))
    }

    #[test]
    fn a_delegate_may_only_narrow() {
        let prefix = |text: &str| at(PathMatch::Prefix(text.into()));
        let exact = |text: &str| at(PathMatch::Exact(text.into()));
        let regex = |text: &str| at(PathMatch::Regex(text.into()));
        for (root, own, merges) in [
            (prefix("/a"), prefix("/a/b"), true),
            (prefix("/a"), exact("/ab"), true),
            (prefix("/a"), prefix("/b"), false),
            (exact("/a"), exact("/a"), true),
            (exact("/a"), prefix("/a"), false),
            (regex("/a.*"), prefix("/a"), false),
            (prefix("/a"), regex("/a"), false),
            (prefix("/a"), ported(80), true),
            (ported(80), ported(80), true),
            (ported(80), ported(81), false),
            (HttpMatch::default(), regex("/a"), true),
        ] {
            assert_eq!(both_of(&root, &own).is_some(), merges, "{root:?} {own:?}");
        }
        let merged = matches(&[prefix("/a"), prefix("/b")], &[exact("/b/c")]).expect("it is within the second");
        assert_eq!(merged, [exact("/b/c")]);
        assert_eq!(matches(&[prefix("/a")], &[exact("/a"), exact("/b")]), None, "one that conflicts spoils all");
    }

    #[test]
    fn what_the_delegate_does_not_say_the_root_says() {
        let second = std::time::Duration::from_secs(1);
        let mut root = HttpRule { name: "root".into(), ..HttpRule::default() };
        root.timeouts.request = Some(second);
        root.filters.request_headers.remove.push("a".into());
        let mut own = HttpRule { name: "own".into(), ..HttpRule::default() };
        own.timeouts.request = Some(2 * second);
        let other = HttpRule { name: "other".into(), ..HttpRule::default() };
        let routes = [own, other].map(|rule| VirtualRoute { rule, delegate: None });
        let (merged, conflicts) = merge(&root, &routes);
        assert!(conflicts.is_empty());
        assert_eq!(merged[0].timeouts.request, Some(2 * second));
        assert_eq!(merged[1].timeouts.request, Some(second));
        assert_eq!((&*merged[0].name, &merged[0].filters.request_headers.remove[..]), ("root-own", &["a".into()][..]));
    }
}
