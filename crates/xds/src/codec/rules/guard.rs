//! Who may ask: tokens, policies over requests, services that are asked.

use super::{
    super::{
        DecodeError,
        address::range_of_wire,
        known,
        policy::{match_of_wire, match_to_wire, range_to_wire, text_of_wire, text_to_wire, values},
    },
    value::{self, Read, all, name, optional, required, strs, text, texts, unless_empty, within},
};
use ipnet::IpNet;
use mesh::{
    policy::{Clause, Match, PathPattern, RequestMatch, Rule, StringMatch, Values},
    route::guard::{
        Authentication, AuthorizerProtocol, BodyShown, ExternalAuthorizer, GuardAction, GuardPolicy, Guards, Issuer,
        Keys,
    },
};
use proto::{security, waypoint as wire};

pub(super) fn encode(guards: &Guards) -> wire::Guards {
    wire::Guards {
        authentications: guards.authentications.iter().map(authentication).collect(),
        policies: guards.policies.iter().map(policy).collect(),
    }
}

pub(super) fn read(guards: wire::Guards) -> Read<Guards> {
    Ok(Guards {
        authentications: all(guards.authentications, read_authentication)?,
        policies: all(guards.policies, read_policy)?,
    })
}

fn policy(policy: &GuardPolicy) -> wire::GuardPolicy {
    use wire::guard_policy::Action;
    let clause = |clause: &Clause| wire::Clause { matches: clause.matches.iter().map(matched).collect() };
    wire::GuardPolicy {
        namespace: text(&policy.namespace),
        name: text(&policy.name),
        action: Some(match &policy.action {
            GuardAction::Allow => Action::Simple(wire::GuardAction::Allow.into()),
            GuardAction::Deny => Action::Simple(wire::GuardAction::Deny.into()),
            GuardAction::Audit => Action::Simple(wire::GuardAction::Audit.into()),
            GuardAction::Custom(authorizer) => Action::Custom(self::authorizer(authorizer)),
        }),
        dry_run: policy.dry_run,
        rules: policy
            .rules
            .iter()
            .map(|rule| wire::Rule { clauses: rule.clauses.iter().map(clause).collect() })
            .collect(),
    }
}

fn read_policy(policy: wire::GuardPolicy) -> Read<GuardPolicy> {
    use wire::guard_policy::Action;
    let place = format!("{}/{}", policy.namespace, policy.name);
    let clause = |clause: wire::Clause| Ok(Clause { matches: all(clause.matches, read_match)? });
    let read = || {
        Ok(GuardPolicy {
            namespace: policy.namespace.into(),
            name: name("name", policy.name)?,
            action: match required("action", policy.action)? {
                Action::Simple(action) => match known("action", action)? {
                    wire::GuardAction::Unspecified => return Err(DecodeError::Missing("action")),
                    wire::GuardAction::Allow => GuardAction::Allow,
                    wire::GuardAction::Deny => GuardAction::Deny,
                    wire::GuardAction::Audit => GuardAction::Audit,
                },
                Action::Custom(authorizer) => GuardAction::Custom(Box::new(read_authorizer(authorizer)?)),
            },
            dry_run: policy.dry_run,
            rules: all(policy.rules, |rule| Ok(Rule { clauses: all(rule.clauses, clause)? }))?,
        })
    };
    within("policy", &place, read())
}

fn matched(matched: &Match) -> wire::Match {
    wire::Match { connection: unless_empty(match_to_wire(matched)), request: matched.request.as_deref().map(request) }
}

fn read_match(matched: wire::Match) -> Read<Match> {
    let request = value::some(matched.request, |request| Ok(Box::new(read_request(request)?)))?;
    Ok(Match { request, ..match_of_wire(matched.connection.unwrap_or_default())? })
}

fn request(request: &RequestMatch) -> wire::RequestMatch {
    let texts = |list: &[StringMatch]| list.iter().map(text_to_wire).collect();
    let paths = |list: &[PathPattern]| list.iter().map(pattern).collect();
    let ranges = |list: &[IpNet]| list.iter().map(range_to_wire).collect();
    let claim = |(path, of): &(Vec<_>, Values<_>)| wire::ClaimValues {
        path: value::texts(path),
        values: texts(&of.any_of),
        not_values: texts(&of.none_of),
    };
    let header = |(name, of): &(_, Values<_>)| wire::HeaderValues {
        name: text(name),
        values: texts(&of.any_of),
        not_values: texts(&of.none_of),
    };
    wire::RequestMatch {
        hosts: texts(&request.hosts.any_of),
        not_hosts: texts(&request.hosts.none_of),
        methods: texts(&request.methods.any_of),
        not_methods: texts(&request.methods.none_of),
        paths: paths(&request.paths.any_of),
        not_paths: paths(&request.paths.none_of),
        principals: texts(&request.principals.any_of),
        not_principals: texts(&request.principals.none_of),
        audiences: texts(&request.audiences.any_of),
        not_audiences: texts(&request.audiences.none_of),
        presenters: texts(&request.presenters.any_of),
        not_presenters: texts(&request.presenters.none_of),
        claims: request.claims.iter().map(claim).collect(),
        headers: request.headers.iter().map(header).collect(),
        remote_ips: ranges(&request.remote_ips.any_of),
        not_remote_ips: ranges(&request.remote_ips.none_of),
        server_names: texts(&request.server_names.any_of),
        not_server_names: texts(&request.server_names.none_of),
    }
}

fn read_request(request: wire::RequestMatch) -> Read<RequestMatch> {
    Ok(RequestMatch {
        hosts: read_texts("hosts", request.hosts, request.not_hosts)?,
        methods: read_texts("methods", request.methods, request.not_methods)?,
        paths: values(request.paths, request.not_paths, read_pattern)?,
        principals: read_texts("principals", request.principals, request.not_principals)?,
        audiences: read_texts("audiences", request.audiences, request.not_audiences)?,
        presenters: read_texts("presenters", request.presenters, request.not_presenters)?,
        claims: all(request.claims, |claim| {
            Ok((value::path("claims", claim.path)?, read_texts("claims", claim.values, claim.not_values)?))
        })?,
        headers: all(request.headers, |header| {
            Ok((name("headers", header.name)?, read_texts("headers", header.values, header.not_values)?))
        })?,
        remote_ips: values(request.remote_ips, request.not_remote_ips, |ip| {
            range_of_wire("remote_ips", &ip.address, ip.length)
        })?,
        server_names: read_texts("server_names", request.server_names, request.not_server_names)?,
    })
}

fn read_texts(
    field: &'static str,
    any_of: Vec<security::StringMatch>,
    none_of: Vec<security::StringMatch>,
) -> Read<Values<StringMatch>> {
    values(any_of, none_of, |text| text_of_wire(field, text))
}

fn pattern(pattern: &PathPattern) -> wire::PathPattern {
    use wire::path_pattern::Pattern;
    let pattern = match pattern {
        PathPattern::Text(text) => Pattern::Text(text_to_wire(text)),
        PathPattern::Template(template) => Pattern::Template(text(template)),
    };
    wire::PathPattern { pattern: Some(pattern) }
}

fn read_pattern(pattern: wire::PathPattern) -> Read<PathPattern> {
    use wire::path_pattern::Pattern;
    Ok(match required("paths", pattern.pattern)? {
        Pattern::Text(text) => PathPattern::Text(text_of_wire("paths", text)?),
        Pattern::Template(template) => PathPattern::Template(template.into()),
    })
}

fn authorizer(authorizer: &ExternalAuthorizer) -> wire::ExternalAuthorizer {
    use wire::external_authorizer::Protocol;
    let protocol = match &authorizer.protocol {
        AuthorizerProtocol::Grpc => Protocol::Grpc(()),
        AuthorizerProtocol::Http {
            path_prefix,
            include_headers,
            add_headers,
            to_backend,
            to_caller_on_allow,
            to_caller_on_deny,
        } => Protocol::Http(wire::HttpAuthorizer {
            path_prefix: text(path_prefix),
            include_headers: texts(include_headers),
            add_headers: value::headers(add_headers),
            to_backend: texts(to_backend),
            to_caller_on_allow: texts(to_caller_on_allow),
            to_caller_on_deny: texts(to_caller_on_deny),
        }),
    };
    wire::ExternalAuthorizer {
        name: text(&authorizer.name),
        destination: Some(value::destination(&authorizer.destination)),
        protocol: Some(protocol),
        timeout: Some(value::duration(authorizer.timeout)),
        fail_open: authorizer.fail_open,
        status_on_error: authorizer.status_on_error.into(),
        body: authorizer
            .body
            .map(|body| wire::BodyShown { bytes_max: body.bytes_max, allow_partial: body.allow_partial }),
    }
}

fn read_authorizer(authorizer: wire::ExternalAuthorizer) -> Read<ExternalAuthorizer> {
    use wire::external_authorizer::Protocol;
    Ok(ExternalAuthorizer {
        name: authorizer.name.into(),
        destination: value::read_destination(authorizer.destination)?,
        protocol: match required("custom.protocol", authorizer.protocol)? {
            Protocol::Grpc(()) => AuthorizerProtocol::Grpc,
            Protocol::Http(http) => AuthorizerProtocol::Http {
                path_prefix: http.path_prefix.into(),
                include_headers: strs(http.include_headers),
                add_headers: value::read_headers("custom.http.add_headers", http.add_headers)?,
                to_backend: strs(http.to_backend),
                to_caller_on_allow: strs(http.to_caller_on_allow),
                to_caller_on_deny: strs(http.to_caller_on_deny),
            },
        },
        timeout: value::read_duration("custom.timeout", authorizer.timeout)?,
        fail_open: authorizer.fail_open,
        status_on_error: value::status("custom.status_on_error", authorizer.status_on_error)?,
        body: authorizer.body.map(|body| BodyShown { bytes_max: body.bytes_max, allow_partial: body.allow_partial }),
    })
}

fn authentication(authentication: &Authentication) -> wire::Authentication {
    wire::Authentication {
        name: text(&authentication.name),
        issuers: authentication.issuers.iter().map(issuer).collect(),
    }
}

fn read_authentication(authentication: wire::Authentication) -> Read<Authentication> {
    let issuers = within("authentication", &authentication.name, all(authentication.issuers, read_issuer))?;
    Ok(Authentication { name: authentication.name.into(), issuers })
}

fn issuer(issuer: &Issuer) -> wire::Issuer {
    let token = |(name, prefix): &_| wire::TokenHeader { name: text(name), prefix: text(prefix) };
    let claim = |(header, path): &(_, Vec<_>)| wire::ClaimHeader { header: text(header), path: texts(path) };
    wire::Issuer {
        issuer: text(&issuer.issuer),
        audiences: texts(&issuer.audiences),
        keys: Some(match &issuer.keys {
            Keys::Inline(keys) => wire::issuer::Keys::Inline(text(keys)),
            Keys::Remote { uri, timeout } => wire::issuer::Keys::Remote(wire::RemoteKeys {
                uri: text(uri),
                timeout: Some(value::duration(*timeout)),
            }),
        }),
        from_headers: issuer.from_headers.iter().map(token).collect(),
        from_params: texts(&issuer.from_params),
        from_cookies: texts(&issuer.from_cookies),
        forward_token: issuer.forward_token,
        payload_header: optional(&issuer.payload_header),
        claim_headers: issuer.claim_headers.iter().map(claim).collect(),
    }
}

fn read_issuer(issuer: wire::Issuer) -> Read<Issuer> {
    Ok(Issuer {
        issuer: name("issuer", issuer.issuer)?,
        audiences: strs(issuer.audiences),
        keys: match required("keys", issuer.keys)? {
            wire::issuer::Keys::Inline(keys) => Keys::Inline(keys.into()),
            wire::issuer::Keys::Remote(remote) => Keys::Remote {
                uri: name("keys.uri", remote.uri)?,
                timeout: value::read_duration("keys.timeout", remote.timeout)?,
            },
        },
        from_headers: all(issuer.from_headers, |token| Ok((name("from_headers", token.name)?, token.prefix.into())))?,
        from_params: strs(issuer.from_params),
        from_cookies: strs(issuer.from_cookies),
        forward_token: issuer.forward_token,
        payload_header: issuer.payload_header.map(Into::into),
        claim_headers: all(issuer.claim_headers, |claim| {
            Ok((name("claim_headers", claim.header)?, value::path("claim_headers", claim.path)?))
        })?,
    })
}
