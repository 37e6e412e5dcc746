//! What a CONNECT says: its target, and hints about who asks. Read from and written to HTTP heads.
//!
//! Only the [`Authority`] decides anything, so it alone is read strictly and refuses. Everything
//! else is a hint for logs and metrics: what cannot be read is absent, never an error, and never
//! believed in a decision.

mod authority;
mod baggage;
mod forwarded;
mod hints;
mod trace;

pub use authority::{Authority, AuthorityError};
pub use baggage::{Baggage, BaggageText};
pub use forwarded::Forwarded;
pub(crate) use hints::Hints;
pub use trace::TraceParent;

use http::{HeaderValue, Method, Request, Uri, request::Parts};
use mesh::Str;

/// Header that carries the sender's network through a gateway.
pub const FORWARDED_NETWORK: &str = "x-forwarded-network";
pub(crate) const BAGGAGE: &str = "baggage";
const FORWARDED: &str = "forwarded";
const TRACEPARENT: &str = "traceparent";

/// The head of one CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectHead {
    /// What the tunnel is for.
    pub authority: Authority,
    /// What the sender says about its workload.
    pub baggage: BaggageText,
    /// Whom the sender says it speaks for.
    pub forwarded: Option<Forwarded>,
    /// The sender's span.
    pub traceparent: Option<TraceParent>,
    /// The sender's network; only on the inner tunnel through a gateway.
    pub forwarded_network: Option<Str>,
}

/// Why a request opens no tunnel. Answered with 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadConnect {
    /// Another method.
    #[error("the method is {0}, only CONNECT opens a tunnel")]
    Method(Method),
    /// CONNECT with a `:protocol`, `:scheme` or `:path` (RFC 8441), which is no tunnel for TCP.
    #[error("an extended CONNECT (with a scheme, path or protocol) opens no tunnel")]
    Extended,
    /// No `:authority`.
    #[error("the CONNECT names no target")]
    NoAuthority,
    /// An `:authority` that is not one.
    #[error("the target of the CONNECT is no address:port or hostname:port")]
    Authority(#[from] AuthorityError),
}

impl ConnectHead {
    /// A head that says where to, and nothing else.
    pub fn to(authority: Authority) -> Self {
        Self { authority, baggage: BaggageText::default(), forwarded: None, traceparent: None, forwarded_network: None }
    }

    /// Reads the head of a request.
    pub fn parse(request: &Parts) -> Result<Self, BadConnect> {
        let extended = request.uri.scheme().is_some()
            || request.uri.path_and_query().is_some()
            || request.extensions.get::<h2::ext::Protocol>().is_some();
        let authority = request.uri.authority().map(|authority| authority.as_str());
        Self::read(request.method.clone(), extended, authority, Hints::of(&request.headers))
    }

    /// Reads a head from its parts.
    pub(crate) fn read(
        method: Method,
        extended: bool,
        authority: Option<&str>,
        hints: Hints,
    ) -> Result<Self, BadConnect> {
        if method != Method::CONNECT {
            return Err(BadConnect::Method(method));
        }
        if extended {
            return Err(BadConnect::Extended);
        }
        Ok(Self {
            authority: Authority::parse(authority.ok_or(BadConnect::NoAuthority)?)?,
            baggage: hints.baggage,
            forwarded: hints.forwarded.flatten(),
            traceparent: hints.traceparent.flatten(),
            forwarded_network: hints.network.flatten(),
        })
    }

    /// The request that says this.
    pub fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        let mut target = http::uri::Parts::default();
        target.authority = Some(self.authority.to_http());
        *request.uri_mut() = Uri::from_parts(target).expect("an authority alone is a URI");
        let headers = request.headers_mut();
        self.each_field(|name, value| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        });
        request
    }

    /// Hands over the fields that say this, but for the target.
    pub(crate) fn each_field(&self, mut field: impl FnMut(&'static str, &str)) {
        if let Some(text) = self.baggage.as_str() {
            field(BAGGAGE, text);
        }
        if let Some(text) = self.forwarded.as_ref().and_then(Forwarded::print) {
            field(FORWARDED, &text);
        }
        if let Some(trace) = self.traceparent {
            field(TRACEPARENT, &trace.to_string());
        }
        if let Some(network) = &self.forwarded_network {
            field(FORWARDED_NETWORK, network);
        }
    }
}

#[cfg(test)]
mod tests;
