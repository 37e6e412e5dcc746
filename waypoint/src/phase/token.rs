//! Tokens: judged, and taken from or told to the endpoint as their rules want it.

use std::time::SystemTime;

use http::header;
use http::header::HeaderValue;
use http::request::Parts;

use super::Exchange;
use crate::answer::Reply;
use crate::report::Flags;
use crate::rules::Prepared;

/// Judges the tokens of a request. A bad one is answered; without any the request goes on without claims.
pub async fn authenticate(exchange: &mut Exchange, rules: &Prepared) -> Result<(), Reply> {
    if rules.authenticator.is_empty() {
        return Ok(());
    }
    let mut head = lend(exchange);
    let judged = rules.authenticator.authenticate(&mut head, SystemTime::now()).await;
    take_back(exchange, head);
    match judged {
        Ok(claims) => {
            exchange.claims = claims;
            Ok(())
        }
        Err(refused) => {
            let response = refused.response().map(Into::into);
            Err(Reply::ready(response, Flags::NONE, refused.details()))
        }
    }
}

/// The head of a request, for those who read and change it whole.
pub(super) fn lend(exchange: &mut Exchange) -> Parts {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = exchange.wanted.method.clone();
    head.version = exchange.version;
    // It was a target when it came, and was normalised since.
    head.uri = exchange.wanted.path_and_query().parse().unwrap_or_default();
    head.headers = std::mem::take(&mut exchange.headers);
    if let Ok(host) = HeaderValue::from_str(&exchange.wanted.authority) {
        head.headers.insert(header::HOST, host);
    }
    head
}

/// What was changed counts: headers, and the query of which tokens may have been taken.
pub(super) fn take_back(exchange: &mut Exchange, mut head: Parts) {
    head.headers.remove(header::HOST);
    exchange.headers = head.headers;
    exchange.wanted.query = head.uri.query().map(str::to_owned);
}
