//! Which requests the access log tells of: the filter of Telemetry, a part of CEL.
//!
//! * Literals: `'text'`, `"text"` (with `\\`, `\'`, `\"`, `\n`, `\t`), numbers, `true`, `false`, lists
//!   `[a, b]` after `in`.
//! * Operators, the loosest first: `||`, `&&`, `== != < <= > >= in`, `!`; parentheses.
//! * Fields: `request.{method, path, url_path, host, scheme, size, id, useragent, protocol,
//!   duration}`, `request.headers['name']`, `response.{code, flags, size, code_details,
//!   grpc_status}`, `connection.{mtls, requested_server_name}`, and `source` and `destination`
//!   with `.{address, principal, workload, namespace}`. `response.flags` is a text, as the log
//!   writes it; `request.duration` is in milliseconds.
//! * Functions: `x.startsWith(y)`, `x.endsWith(y)`, `x.contains(y)`, `x.matches('regex')` (somewhere
//!   in `x`, as in CEL), `has(field)`.
//!
//! It is read once, and then cannot fail: where CEL has an error (a field that is not there, an
//! order of a text and a number) nothing is equal, nothing is ordered and nothing is in it, and
//! `!` of it is not true either. As in CEL, `true ||` such a thing is true and `false &&` it
//! false. A filter that comes to no answer is not true, so that Telemetry that asks for little
//! does not write everything.

mod evaluate;
mod parse;

pub use evaluate::{Facts, Value};
pub use parse::BadExpression;

use regex::Regex;

/// A filter that was read.
#[derive(Clone, Debug)]
pub struct Expression(Node);

impl Expression {
    /// Reads a filter.
    pub fn parse(text: &str) -> Result<Self, BadExpression> {
        parse::parse(text).map(Self)
    }

    /// Whether it is true of a request.
    pub fn is_true(&self, facts: &impl Facts) -> bool {
        matches!(evaluate::evaluate(&self.0, facts), Value::Truth(true))
    }
}

/// Something that is known of a request and its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `request.method`
    Method,
    /// `request.path`, with the query.
    Path,
    /// `request.url_path`, without it.
    UrlPath,
    /// `request.host`
    Host,
    /// `request.scheme`
    Scheme,
    /// `request.size`: bytes of its body.
    RequestSize,
    /// `request.id`
    RequestId,
    /// `request.useragent`
    UserAgent,
    /// `request.protocol`: `HTTP/1.1`, `HTTP/2`.
    Protocol,
    /// `request.duration`: milliseconds.
    Duration,
    /// `request.headers['…']`, the name in lower case.
    Header(String),
    /// `response.code`
    Code,
    /// `response.flags`
    Flags,
    /// `response.size`: bytes of its body.
    ResponseSize,
    /// `response.code_details`
    CodeDetails,
    /// `response.grpc_status`
    GrpcStatus,
    /// `connection.mtls`
    Mtls,
    /// `connection.requested_server_name`
    ServerName,
    /// A field of the caller.
    Source(Party),
    /// A field of whom is called.
    Destination(Party),
}

/// A field of either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// `address`: with its port.
    Address,
    /// `principal`
    Principal,
    /// `workload`: its name.
    Workload,
    /// `namespace`
    Namespace,
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Number(f64),
    Truth(bool),
    Field(Field),
    Has(Field),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    Compare(Comparison, Box<Self>, Box<Self>),
    In(Box<Self>, Vec<Self>),
    Call(Function, Box<Self>, Box<Self>),
    Matches(Box<Self>, Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    StartsWith,
    EndsWith,
    Contains,
}

#[cfg(test)]
mod tests;
