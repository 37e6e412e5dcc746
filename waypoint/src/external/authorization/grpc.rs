//! `envoy.service.auth.v3.Authorization/Check`.

use super::{Changes, Subject, Verdict, denied, removable};
use crate::external::{
    call::{Call, CallFailed, Grpc, within},
    edit::Edit,
};
use http::{HeaderMap, Version};
use mesh::{Identity, route::guard::ExternalAuthorizer};
use proto::envoy::{
    config::core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier},
    service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse,
        attribute_context::{HttpRequest, Peer, Request, TlsSession},
        authorization_client::AuthorizationClient,
        check_response::HttpResponse,
    },
};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// The largest answer: headers and the body of a refusal.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

pub(super) async fn ask(
    call: &Arc<dyn Call>,
    authorizer: &ExternalAuthorizer,
    subject: &Subject<'_>,
) -> Result<Verdict, CallFailed> {
    let way = Grpc::to(call.clone(), authorizer.destination.clone());
    let origin = way.origin();
    let mut client = AuthorizationClient::with_origin(way, origin).max_decoding_message_size(ANSWER_BYTES_MAX);
    let request = CheckRequest { attributes: Some(attributes(subject)) };
    let answer = async {
        let answer = client.check(request).await;
        answer.map_err(|status| CallFailed::Unreachable(status.to_string()))
    };
    Ok(verdict(within(authorizer.timeout, answer).await?.into_inner()))
}

/// What an answer says. OK lets pass, whatever stands beside it; everything else refuses.
fn verdict(answer: CheckResponse) -> Verdict {
    // Without a status it says nothing, and nothing is no permission.
    let ok = answer.status.as_ref().is_some_and(|status| status.code == 0);
    match answer.http_response {
        Some(HttpResponse::OkResponse(said)) if ok => Verdict::Pass(Changes {
            request: Edit::all(said.headers),
            remove: removable(said.headers_to_remove),
            query_set: said.query_parameters_to_set.into_iter().map(|pair| (pair.key, pair.value)).collect(),
            query_remove: said.query_parameters_to_remove,
            response: Edit::all(said.response_headers_to_add),
            failed_open: false,
        }),
        _ if ok => Verdict::Pass(Changes::default()),
        Some(HttpResponse::DeniedResponse(said)) => {
            let status = said.status.map_or(0, |status| status.code);
            Verdict::Refuse(denied(status.into(), &Edit::all(said.headers), said.body.into()))
        }
        Some(HttpResponse::OkResponse(_)) | None => Verdict::Refuse(denied(0, &[], Default::default())),
    }
}

fn attributes(subject: &Subject<'_>) -> AttributeContext {
    AttributeContext {
        source: Some(peer(subject.source, subject.source_identity)),
        destination: Some(peer(subject.destination, subject.own_identity)),
        request: Some(Request { time: Some(subject.time.into()), http: Some(http_request(subject)) }),
        context_extensions: BTreeMap::new(),
        tls_session: subject.server_name.map(|name| TlsSession { sni: name.into() }),
    }
}

fn peer(address: SocketAddr, identity: Option<&Identity>) -> Peer {
    let socket = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
        ..SocketAddress::default()
    };
    Peer {
        address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
        principal: identity.map(ToString::to_string).unwrap_or_default(),
        ..Peer::default()
    }
}

fn http_request(subject: &Subject<'_>) -> HttpRequest {
    let head = subject.head;
    let mut headers = texts(&head.headers);
    for (name, value) in
        [(":method", head.method.as_str()), (":authority", subject.authority), (":scheme", subject.scheme)]
    {
        headers.insert(name.into(), value.into());
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    headers.insert(":path".into(), path.into());
    let length = head.headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if let Some(part) = subject.body {
        headers.insert("x-envoy-auth-partial-body".into(), part.cut.to_string());
    }
    HttpRequest {
        id: headers.get("x-request-id").cloned().unwrap_or_default(),
        method: head.method.to_string(),
        path: path.into(),
        host: subject.authority.into(),
        scheme: subject.scheme.into(),
        size: length.unwrap_or(-1),
        protocol: match head.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        }
        .into(),
        // Both forms, so that an authorizer finds the one that it reads; Envoy sends the text alone
        // where nobody says otherwise, and bytes that are no text would not arrive in it.
        body: subject.body.and_then(|part| std::str::from_utf8(&part.bytes).ok()).unwrap_or_default().into(),
        raw_body: match subject.body {
            Some(part) if std::str::from_utf8(&part.bytes).is_err() => part.bytes.to_vec(),
            _ => Vec::new(),
        },
        headers,
        ..HttpRequest::default()
    }
}

/// Headers as a map: several of a name are one, joined by a comma.
fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let text = texts.entry(name.as_str().to_owned()).or_default();
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&value);
    }
    texts
}
