//! One line of the access log for each request: Istio's default text, or the same as JSON.
//!
//! Values that come from callers are cut at a length, and quotes and control characters in them
//! are escaped, so that nobody writes lines of his own.

use super::{
    line::{Line, millis},
    outcome::{ORIGINAL_PATH, Outcome, Protocol},
};
use crate::serve::form::FORWARDED_FOR;
use http::header::USER_AGENT;
use std::net::SocketAddr;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Istio's default text.
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl Format {
    /// The line of a request, with its line end.
    pub fn line(self, outcome: &Outcome) -> String {
        let mut line = Line::new();
        match self {
            Self::Text => text(&mut line, outcome),
            Self::Json => json(&mut line, outcome),
        }
        line.end()
    }
}

fn text(line: &mut Line, o: &Outcome) {
    let (method, path) = asked(o);
    line.say("[").time(o.started).say("] \"").say(method).say(" ").escaped(path.unwrap_or("-"));
    line.say(" ").say(o.protocol.label()).say("\" ").number(o.status.into()).say(" ").flags(o.flags);
    line.say(" ").bare(Some(&o.details)).say(" ").bare(o.termination.as_deref());
    line.say(" ").quoted(o.upstream_failure.as_deref());
    line.say(" ").number(o.received_bytes).say(" ").number(o.sent_bytes).say(" ").number(millis(o.duration));
    line.say(" ").or_dash(o.upstream_time.map(millis), Line::number);
    line.say(" ").quoted(o.header(&FORWARDED_FOR)).say(" ").quoted(o.header(&USER_AGENT));
    line.say(" ").quoted(Some(&o.request_id)).say(" ").quoted(Some(&o.authority));
    line.say(" \"").or_dash(o.upstream, Line::address).say("\" ").bare(Some(&o.cluster));
    for address in [o.upstream_local, o.downstream_local, o.downstream_remote] {
        line.say(" ").or_dash(address, Line::address);
    }
    line.say(" ").bare(o.server_name.as_deref()).say(" ").bare(Some(&o.route));
}

fn json(line: &mut Line, o: &Outcome) {
    let (method, path) = asked(o);
    let http = o.protocol != Protocol::Tcp;
    let upstream_time = o.upstream_time.map(|time| millis(time).to_string());
    let mut object = Object { line, first: true };
    object.key("start_time").say("\"").time(o.started).say("\"");
    object.text("route_name", Some(&o.route));
    object.text("method", http.then_some(method));
    object.text("path", path);
    object.text("protocol", http.then_some(o.protocol.label()));
    object.key("response_code").number(o.status.into());
    object.text("response_flags", Some(&o.flags.to_string()));
    object.text("response_code_details", Some(&o.details));
    object.text("connection_termination_details", o.termination.as_deref());
    object.key("bytes_received").number(o.received_bytes);
    object.key("bytes_sent").number(o.sent_bytes);
    object.key("duration").number(millis(o.duration));
    object.text("upstream_service_time", upstream_time.as_deref());
    object.text("x_forwarded_for", o.header(&FORWARDED_FOR));
    object.text("user_agent", o.header(&USER_AGENT));
    object.text("request_id", Some(&o.request_id));
    object.text("authority", Some(&o.authority));
    object.address("upstream_host", o.upstream);
    object.text("upstream_cluster", Some(&o.cluster));
    object.address("upstream_local_address", o.upstream_local);
    object.address("downstream_local_address", o.downstream_local);
    object.address("downstream_remote_address", o.downstream_remote);
    object.text("requested_server_name", o.server_name.as_deref());
    object.text("upstream_transport_failure_reason", o.upstream_failure.as_deref());
    line.say("}");
}

fn asked(o: &Outcome) -> (&str, Option<&str>) {
    if o.protocol == Protocol::Tcp {
        return ("-", None);
    }
    // Behind a rewriting proxy of Envoy's kind the path that was asked for first counts.
    (o.method.as_str(), o.header(&ORIGINAL_PATH).or(Some(&o.path)))
}

/// An object that is written field by field; what is unknown is null.
struct Object<'a> {
    line: &'a mut Line,
    first: bool,
}

impl Object<'_> {
    fn key(&mut self, key: &str) -> &mut Line {
        let before = if self.first { "{\"" } else { ",\"" };
        self.first = false;
        self.line.say(before).say(key).say("\":")
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        match value.filter(|value| !value.is_empty()) {
            Some(value) => self.key(key).quoted(Some(value)),
            None => self.key(key).say("null"),
        };
    }

    fn address(&mut self, key: &str, value: Option<SocketAddr>) {
        match value {
            Some(value) => self.key(key).say("\"").address(value).say("\""),
            None => self.key(key).say("null"),
        };
    }
}
