//! What a request says, against what a policy asks of it.

use super::{Asked, Unseen, agrees, all, contains, says, text};
use crate::{
    policy::{PathPattern, RequestMatch, Rule, StringMatch},
    route::head::{Head, split_port},
};
use serde_json::Value;

/// Whether what is asked of a request agrees; `None` where nothing is. Without a request only the
/// server name can be compared.
pub(super) fn agreement(wanted: &RequestMatch, asked: &Asked<'_>, unseen: Unseen) -> Option<bool> {
    // Every field is taken apart here, so that a new one cannot be forgotten.
    let RequestMatch {
        hosts,
        methods,
        paths,
        principals,
        audiences,
        presenters,
        claims,
        headers,
        remote_ips,
        server_names,
    } = wanted;
    let server_name = agrees(server_names, |wanted| text_without_case(wanted, asked.server_name));
    let Some(head) = asked.request else {
        let others = asks_request(wanted).then_some(unseen == Unseen::Agrees);
        return all([server_name, others]);
    };
    let claim = |name: &'static str| head.claim(&[name]).and_then(Value::as_str).unwrap_or_default();
    let principal = || match (claim("iss"), claim("sub")) {
        ("", _) | (_, "") => String::new(),
        (issuer, subject) => format!("{issuer}/{subject}"),
    };
    let each_claim = claims.iter().map(|(path, values)| agrees(values, |wanted| claim_is(wanted, head, path)));
    let each_header = headers.iter().map(|(name, values)| {
        let found = head.header(name).unwrap_or_default();
        agrees(values, |wanted| text(wanted, &found))
    });
    let fields = [
        agrees(hosts, |wanted| host(wanted, head.authority)),
        agrees(methods, |wanted| text(wanted, head.method)),
        agrees(paths, |wanted| path(wanted, head.path)),
        agrees(principals, |wanted| text(wanted, &principal())),
        agrees(audiences, |wanted| claim_is(wanted, head, &["aud"])),
        agrees(presenters, |wanted| text(wanted, claim("azp"))),
        agrees(remote_ips, |net| contains(net, head.remote_address.to_canonical())),
        server_name,
    ];
    all(fields.into_iter().chain(each_claim).chain(each_header))
}

/// Whether a match asks for something that only a request has.
pub(super) fn asks_request(wanted: &RequestMatch) -> bool {
    let RequestMatch {
        hosts,
        methods,
        paths,
        principals,
        audiences,
        presenters,
        claims,
        headers,
        remote_ips,
        server_names: _,
    } = wanted;
    let fields = [hosts, methods, principals, audiences, presenters];
    let named = claims.iter().map(|(_, values)| values).chain(headers.iter().map(|(_, values)| values));
    fields.into_iter().chain(named).any(says) || says(paths) || says(remote_ips)
}

/// A claim that is not there is "", as any other field.
fn claim_is<S: AsRef<str>>(wanted: &StringMatch, head: &Head<'_>, path: &[S]) -> bool {
    match head.claim(path) {
        None => text(wanted, ""),
        Some(_) => head.claim_is(path, |found| text(wanted, found)),
    }
}

/// Names of hosts have no case. What names no port agrees with every port.
fn host(wanted: &StringMatch, authority: &str) -> bool {
    let named = match wanted {
        StringMatch::Exact(wanted) | StringMatch::Prefix(wanted) | StringMatch::Suffix(wanted) => wanted,
        StringMatch::Presence => return !authority.is_empty(),
    };
    let names_port = split_port(named).1.is_some();
    text_without_case(wanted, if names_port { authority } else { split_port(authority).0 })
}

fn text_without_case(wanted: &StringMatch, found: &str) -> bool {
    let (found, same) = (found.as_bytes(), |a: Option<&[u8]>, b: &[u8]| a.is_some_and(|a| a.eq_ignore_ascii_case(b)));
    match wanted {
        StringMatch::Exact(wanted) => same(Some(found), wanted.as_bytes()),
        StringMatch::Prefix(prefix) => same(found.get(..prefix.len()), prefix.as_bytes()),
        StringMatch::Suffix(suffix) => {
            let end = found.len().checked_sub(suffix.len()).map(|at| &found[at..]);
            same(end, suffix.as_bytes())
        }
        StringMatch::Presence => !found.is_empty(),
    }
}

fn path(wanted: &PathPattern, found: &str) -> bool {
    match wanted {
        PathPattern::Text(wanted) => text(wanted, found),
        PathPattern::Template(template) => template_is(template, found),
    }
}

/// One element of a path that is not empty.
const ONE: &str = "{*}";
/// One or more elements, which may be empty; there is at most one such in a template.
const MANY: &str = "{**}";

/// `/a/{*}/b` and `/a/{**}/b`, element by element.
fn template_is(template: &str, path: &str) -> bool {
    let one = |(wanted, found): (&str, &str)| if wanted == ONE { !found.is_empty() } else { wanted == found };
    let Some((before, after)) = template.split_once(MANY) else {
        return template.split('/').count() == path.split('/').count()
            && template.split('/').zip(path.split('/')).all(one);
    };
    // Before and after it stand whole elements, with the `/` between.
    let (before, after) = (before.split('/'), after.split('/'));
    let (first, last) = (before.clone().count() - 1, after.clone().count() - 1);
    path.split('/').count() > first + last
        && before.take(first).zip(path.split('/')).all(one)
        && after.rev().take(last).zip(path.rsplit('/')).all(one)
}

/// Whether every template of these rules is one, and why not.
pub fn check_templates(rules: &[Rule]) -> Result<(), String> {
    let matches = rules.iter().flat_map(|rule| &rule.clauses).flat_map(|clause| &clause.matches);
    let paths = matches.filter_map(|one| one.request.as_deref()).map(|request| &request.paths);
    let mut patterns = paths.flat_map(|paths| paths.any_of.iter().chain(&paths.none_of));
    patterns.try_for_each(|pattern| match pattern {
        PathPattern::Text(_) => Ok(()),
        PathPattern::Template(template) => check_template(template),
    })
}

fn check_template(template: &str) -> Result<(), String> {
    if !template.starts_with('/') {
        return Err(format!("the path template {template:?} does not begin with /"));
    }
    let mut many = false;
    for element in template.split('/') {
        if !matches!(element, ONE | MANY) && element.contains(['{', '}', '*']) {
            return Err(format!(
                "in the path template {template:?} {element:?} is neither a text, nor {ONE}, nor {MANY}"
            ));
        }
        if many && matches!(element, ONE | MANY) {
            return Err(format!("in the path template {template:?} {MANY} is not the last of its kind"));
        }
        many = many || element == MANY;
    }
    Ok(())
}
