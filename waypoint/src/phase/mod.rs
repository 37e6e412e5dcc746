//! The phases of a request, one file each. [`crate::pipeline`] lists them in order.

pub mod admit;
pub mod again;
pub mod ask;
pub mod attempt;
pub mod back;
pub mod busy;
pub mod fault;
pub mod head;
pub mod limited;
pub mod mirror;
mod patience;
pub mod refusal;
pub mod route;
pub mod token;
pub mod upgrade;

use std::sync::Arc;

use http::{HeaderMap, Version};
use hyper::upgrade::OnUpgrade;
use mesh::View;
use mesh::authz::Attributes;
use mesh::route::head::Head;

use crate::answer::Teller;
use crate::authn::Claims;
use crate::body::Passage;
use crate::context::{Call, Core};
use crate::rules::Prepared;
use crate::serve::form::{Asker, Wanted};
use crate::serve::switch::Switch;
use back::Back;

/// A request on its way through the phases.
pub struct Exchange {
    /// What this core has.
    pub core: Arc<Core>,
    /// Who asks, and for what.
    pub call: Arc<Call>,
    /// The mesh as it was when the request came: nothing below sees it change.
    pub view: Arc<View>,
    /// The rules of that view.
    pub rules: Arc<Prepared>,
    /// What is asked for.
    pub wanted: Wanted,
    /// Its headers, as they go on; they go with the last phase.
    pub headers: HeaderMap,
    /// The version of HTTP that the caller speaks.
    pub version: Version,
    /// It is gRPC.
    pub grpc: bool,
    /// What the connection is to become.
    pub upgrade: Option<(Switch, OnUpgrade)>,
    /// Claims of its token.
    pub claims: Option<Arc<Claims>>,
    /// What became of its body.
    pub passage: Arc<Passage>,
    /// What is done to its answer.
    pub back: Back,
    /// Tells how it ended.
    pub teller: Box<Teller>,
}

impl Exchange {
    /// The part of its head that it does not say itself.
    pub fn asker(&self) -> Asker<'_> {
        Asker { caller: &self.call.caller, from: self.call.from, port: self.call.target.port() }
    }

    /// Its head, for rules and policies.
    pub fn head(&self) -> Head<'_> {
        self.head_with(&self.headers)
    }

    /// The same with other headers.
    pub fn head_with<'a>(&'a self, headers: &'a HeaderMap) -> Head<'a> {
        self.wanted.head(headers, self.asker(), self.claims.as_ref().map(|claims| &claims.json))
    }

    /// The connection's part of what policies are asked with.
    pub fn attributes<'a>(&'a self, head: &'a Head<'a>) -> Attributes<'a> {
        attributes(&self.call, Some(head), None)
    }
}

/// What policies are asked with.
pub fn attributes<'a>(call: &'a Call, request: Option<&'a Head<'a>>, server_name: Option<&'a str>) -> Attributes<'a> {
    let unknown = std::net::Ipv4Addr::UNSPECIFIED.into();
    Attributes {
        source: Some(&call.caller),
        source_ip: call.from.ip(),
        destination_ip: call.target.address().map_or(unknown, |address| address.ip()),
        destination_port: call.target.port(),
        server_name,
        request,
    }
}
