//! Who may ask: tokens, policies over everything a request says, and services that are asked.

use super::Destination;
use crate::{Str, policy::Rule};
use std::time::Duration;

/// What a request must pass before it is routed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// Tokens.
    pub authentications: Vec<Authentication>,
    /// Policies, in the order CUSTOM, DENY, ALLOW, AUDIT of their evaluation whatever theirs here.
    pub policies: Vec<GuardPolicy>,
}

/// One policy over requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardPolicy {
    /// Namespace.
    pub namespace: Str,
    /// Name.
    pub name: Str,
    /// What a hit does.
    pub action: GuardAction,
    /// It is evaluated for the log only.
    pub dry_run: bool,
    /// Alternatives. None at all: it never hits.
    pub rules: Vec<Rule>,
}

/// What a hit of a policy does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardAction {
    /// Lets pass.
    Allow,
    /// Refuses.
    Deny,
    /// Is written to the log.
    Audit,
    /// Somebody else is asked.
    Custom(Box<ExternalAuthorizer>),
}

/// Somebody who is asked whether a request may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAuthorizer {
    /// Name of the provider.
    pub name: Str,
    /// Where it is.
    pub destination: Destination,
    /// How it is asked.
    pub protocol: AuthorizerProtocol,
    /// How long it may take.
    pub timeout: Duration,
    /// Requests pass when it does not answer.
    pub fail_open: bool,
    /// Status when it does not answer and requests do not pass.
    pub status_on_error: u16,
    /// How much of the body it is shown; none: nothing.
    pub body: Option<BodyShown>,
}

/// How much of a body an authorizer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyShown {
    /// Bytes at most.
    pub bytes_max: u32,
    /// A longer body is cut; otherwise it is answered with 413.
    pub allow_partial: bool,
}

/// How an authorizer is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizerProtocol {
    /// `envoy.service.auth.v3.Authorization/Check`.
    Grpc,
    /// The request again, without its body; 200 lets it pass.
    Http {
        /// Before the path.
        path_prefix: Str,
        /// Headers of the request it is shown, beside host, method, path and content-length.
        include_headers: Vec<Str>,
        /// Headers it is always shown.
        add_headers: Vec<(Str, Str)>,
        /// Headers of its answer that go to the backend when the request passes.
        to_backend: Vec<Str>,
        /// Headers of its answer that go to the caller when the request passes.
        to_caller_on_allow: Vec<Str>,
        /// Headers of its answer that go to the caller when it does not.
        to_caller_on_deny: Vec<Str>,
    },
}

/// Tokens that are accepted. A request without a token passes, one with a bad one does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// `namespace/name`, for logs.
    pub name: Str,
    /// Issuers.
    pub issuers: Vec<Issuer>,
}

/// Somebody whose tokens (JWT, RFC 7519) are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The `iss` claim.
    pub issuer: Str,
    /// One of these in `aud`; empty: any.
    pub audiences: Vec<Str>,
    /// The keys its tokens are signed with.
    pub keys: Keys,
    /// Headers that carry tokens: (name in lower case, what stands before the token).
    pub from_headers: Vec<(Str, Str)>,
    /// Query parameters that carry tokens.
    pub from_params: Vec<Str>,
    /// Cookies that carry tokens.
    pub from_cookies: Vec<Str>,
    /// The token goes to the backend.
    pub forward_token: bool,
    /// The claims go to the backend in this header, as base64url of their JSON.
    pub payload_header: Option<Str>,
    /// Claims that go to the backend: (header, path of names).
    pub claim_headers: Vec<(Str, Vec<Str>)>,
}

impl Issuer {
    /// Whether it names no place for tokens, so that `Authorization: Bearer` and `access_token` count.
    pub fn default_places(&self) -> bool {
        self.from_headers.is_empty() && self.from_params.is_empty() && self.from_cookies.is_empty()
    }
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Here: a JSON Web Key Set (RFC 7517).
    Inline(Str),
    /// There.
    Remote {
        /// `http` or `https`.
        uri: Str,
        /// How long it may take.
        timeout: Duration,
    },
}
