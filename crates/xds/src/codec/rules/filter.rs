//! What is done to requests and responses, and answers of the waypoint's own.

use super::value::{self, Read, all, durations, optional, read_durations, required, some, strs, text, texts};
use mesh::route::http::{Cors, DirectResponse, Filters, HeaderEdit, Mirror, PathRewrite, Redirect, Rewrite};
use proto::waypoint as wire;

pub(super) fn encode(filters: &Filters) -> wire::Filters {
    wire::Filters {
        request_headers: value::unless_empty(headers(&filters.request_headers)),
        response_headers: value::unless_empty(headers(&filters.response_headers)),
        rewrite_host: optional(&filters.rewrite.host),
        rewrite_path: filters.rewrite.path.as_ref().map(path),
        mirrors: filters.mirrors.iter().map(mirror).collect(),
        cors: filters.cors.as_ref().map(cors),
    }
}

pub(super) fn read(filters: wire::Filters) -> Read<Filters> {
    Ok(Filters {
        request_headers: read_headers(filters.request_headers)?,
        response_headers: read_headers(filters.response_headers)?,
        rewrite: Rewrite { host: filters.rewrite_host.map(Into::into), path: some(filters.rewrite_path, read_path)? },
        mirrors: all(filters.mirrors, read_mirror)?,
        cors: some(filters.cors, read_cors)?,
    })
}

pub(super) fn headers(edit: &HeaderEdit) -> wire::HeaderEdit {
    wire::HeaderEdit { set: value::headers(&edit.set), add: value::headers(&edit.add), remove: texts(&edit.remove) }
}

pub(super) fn read_headers(edit: Option<wire::HeaderEdit>) -> Read<HeaderEdit> {
    let edit = edit.unwrap_or_default();
    Ok(HeaderEdit {
        set: value::read_headers("set", edit.set)?,
        add: value::read_headers("add", edit.add)?,
        remove: strs(edit.remove),
    })
}

fn path(path: &PathRewrite) -> wire::PathRewrite {
    use wire::path_rewrite::Rewrite;
    let rewrite = match path {
        PathRewrite::Full(path) => Rewrite::Full(text(path)),
        PathRewrite::Prefix(path) => Rewrite::Prefix(text(path)),
        PathRewrite::Regex { pattern, substitution } => {
            Rewrite::Regex(wire::RegexRewrite { pattern: text(pattern), substitution: text(substitution) })
        }
    };
    wire::PathRewrite { rewrite: Some(rewrite) }
}

fn read_path(path: wire::PathRewrite) -> Read<PathRewrite> {
    use wire::path_rewrite::Rewrite;
    Ok(match required("path rewrite", path.rewrite)? {
        Rewrite::Full(path) => PathRewrite::Full(path.into()),
        Rewrite::Prefix(path) => PathRewrite::Prefix(path.into()),
        Rewrite::Regex(regex) => {
            PathRewrite::Regex { pattern: regex.pattern.into(), substitution: regex.substitution.into() }
        }
    })
}

pub(super) fn redirect(redirect: &Redirect) -> wire::Redirect {
    wire::Redirect {
        scheme: optional(&redirect.scheme),
        host: optional(&redirect.host),
        port: redirect.port.map(u32::from),
        path: redirect.path.as_ref().map(path),
        status: redirect.status.into(),
    }
}

pub(super) fn read_redirect(redirect: wire::Redirect) -> Read<Redirect> {
    Ok(Redirect {
        scheme: redirect.scheme.map(Into::into),
        host: redirect.host.map(Into::into),
        port: some(redirect.port, |port| value::read_port("redirect.port", port))?,
        path: some(redirect.path, read_path)?,
        status: value::status("redirect.status", redirect.status)?,
    })
}

pub(super) fn response(response: &DirectResponse) -> wire::DirectResponse {
    let body = |(content, content_type): &_| wire::Body { content: text(content), content_type: text(content_type) };
    wire::DirectResponse { status: response.status.into(), body: response.body.as_ref().map(body) }
}

pub(super) fn read_response(response: wire::DirectResponse) -> Read<DirectResponse> {
    let status = value::status("respond.status", response.status)?;
    Ok(DirectResponse { status, body: response.body.map(|body| (body.content.into(), body.content_type.into())) })
}

fn mirror(mirror: &Mirror) -> wire::Mirror {
    wire::Mirror { destination: Some(value::destination(&mirror.destination)), share_ppm: mirror.share.0 }
}

fn read_mirror(mirror: wire::Mirror) -> Read<Mirror> {
    Ok(Mirror {
        destination: value::read_destination(mirror.destination)?,
        share: value::share("mirrors.share_ppm", mirror.share_ppm)?,
    })
}

fn cors(cors: &Cors) -> wire::Cors {
    wire::Cors {
        allow_origins: cors.allow_origins.iter().map(value::text_match).collect(),
        allow_methods: texts(&cors.allow_methods),
        allow_headers: texts(&cors.allow_headers),
        expose_headers: texts(&cors.expose_headers),
        allow_credentials: cors.allow_credentials,
        max_age: durations(cors.max_age),
        forward_unmatched: cors.forward_unmatched,
    }
}

fn read_cors(cors: wire::Cors) -> Read<Cors> {
    let origin = |origin| value::read_text_match("cors.allow_origins", Some(origin));
    Ok(Cors {
        allow_origins: all(cors.allow_origins, origin)?,
        allow_methods: strs(cors.allow_methods),
        allow_headers: strs(cors.allow_headers),
        expose_headers: strs(cors.expose_headers),
        allow_credentials: cors.allow_credentials,
        max_age: read_durations("cors.max_age", cors.max_age)?,
        forward_unmatched: cors.forward_unmatched,
    })
}
