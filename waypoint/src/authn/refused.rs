//! Why a token is refused, in the words of Envoy, and what the caller is told.

use http::{HeaderValue, Response, StatusCode, header};

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no token.
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Form,
    /// Its header is no base64url.
    #[error("Jwt header is an invalid Base64url encoded")]
    HeaderBase64,
    /// Its header is no object, or asks for what we do not know.
    #[error("Jwt header is an invalid JSON")]
    HeaderJson,
    /// It does not say how it is signed.
    #[error("Jwt header [alg] field is required and must be a string")]
    NoAlgorithm,
    /// It is not signed, or not as we can verify.
    #[error("Jwt header [alg] is not supported")]
    Algorithm,
    /// The name of its key is no text.
    #[error("Jwt header [kid] field is not a string")]
    KeyId,
    /// Its claims are no base64url.
    #[error("Jwt payload is an invalid Base64url encoded")]
    PayloadBase64,
    /// Its claims are no object, or a claim that counts is of the wrong kind.
    #[error("Jwt payload is an invalid JSON")]
    PayloadJson,
    /// Its signature is wrong.
    #[error("Jwt verification fails")]
    Signature,
    /// It is for later.
    #[error("Jwt not yet valid")]
    NotYet,
    /// Its time is over.
    #[error("Jwt is expired")]
    Expired,
    /// Nobody trusts who made it, at the place where it is.
    #[error("Jwt issuer is not configured")]
    UnknownIssuer,
    /// It is for somebody else.
    #[error("Audiences in Jwt are not allowed")]
    Audience,
    /// The issuer has no key of that name and kind.
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    UnknownKey,
    /// The issuer's keys could not be fetched, or there is none that can be used.
    #[error("Jwks remote fetch is failed")]
    NoKeys,
}

impl Refusal {
    /// Status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            // Somebody is known, and may not.
            Self::Audience => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

/// A refusal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    realm: String,
}

/// The longest URI that is told back; Envoy's own.
const REALM_BYTES_MAX: usize = 256;

impl Refused {
    /// The refusal of a request.
    pub(super) fn of(refusal: Refusal, head: &http::request::Parts) -> Self {
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = head.uri.authority().map(|authority| authority.as_str()).or(host).unwrap_or_default();
        let whole = format!("{}://{host}{}", head.uri.scheme_str().unwrap_or("http"), head.uri.path());
        // It stands between quotes.
        let plain = whole.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'));
        Self { refusal, realm: plain.take(REALM_BYTES_MAX).collect() }
    }

    /// What the caller is told.
    pub fn response(&self) -> Response<String> {
        let text = self.refusal.to_string();
        let mut response = Response::new(text);
        *response.status_mut() = self.refusal.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let challenge = format!("Bearer realm=\"{}\", error=\"invalid_token\"", self.realm);
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// Why, in the words of the access log.
    pub fn details(&self) -> String {
        crate::report::details::token_refused(&self.refusal.to_string())
    }
}
