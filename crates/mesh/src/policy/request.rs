//! What a policy may ask of a request beyond who sends it and where to.

use super::{StringMatch, Values};
use crate::Str;
use ipnet::IpNet;

/// Fields that must all agree. A field that the request does not have is "".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestMatch {
    /// Its host, without regard to case. What names no port agrees with every port.
    pub hosts: Values<StringMatch>,
    /// Its method. Of gRPC it is `POST`.
    pub methods: Values<StringMatch>,
    /// Its path after normalisation, without the query. Of gRPC it is `/package.Service/Method`.
    pub paths: Values<PathPattern>,
    /// `issuer/subject` of its token.
    pub principals: Values<StringMatch>,
    /// Audiences of its token; one that agrees is enough.
    pub audiences: Values<StringMatch>,
    /// The authorized presenter (`azp`) of its token.
    pub presenters: Values<StringMatch>,
    /// Claims of its token: path of names → value; of a list, one that agrees is enough. `scope`
    /// and `permission` are lists with spaces between.
    pub claims: Vec<(Vec<Str>, Values<StringMatch>)>,
    /// Headers, by name in lower case; several of a name are one, joined by a comma.
    pub headers: Vec<(Str, Values<StringMatch>)>,
    /// The caller's address as trusted proxies before us tell it; ours is the connection's.
    pub remote_ips: Values<IpNet>,
    /// Server name of a TLS connection that is passed through.
    pub server_names: Values<StringMatch>,
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// As a text.
    Text(StringMatch),
    /// By its elements: `{*}` stands for one that is not empty; `{**}`, the last of its kind, for one
    /// or more, empty ones too: `/a/{**}` agrees with `/a/` and `/a/b/c`, not with `/a` (as Envoy).
    Template(Str),
}
