//! A request as the filters of access logs see it ([`mesh::route::expression`]).

use super::{
    attribute::field as named,
    outcome::{Outcome, Protocol, Security},
};
use mesh::route::expression::{Facts, Field, Party, Value};
use std::borrow::Cow;

impl Facts for Outcome {
    fn field(&self, field: &Field) -> Value<'_> {
        let http = self.protocol != Protocol::Tcp;
        let text = |name: &str| named(self, name).map_or(Value::Nothing, Value::Text);
        let of_request = |name: &str| if http { text(name) } else { Value::Nothing };
        let number = |number: u64| Value::Number(number as f64);
        match field {
            Field::Method => of_request("request.method"),
            Field::Path => of_request("request.path"),
            Field::UrlPath => of_request("request.url_path"),
            Field::Host => of_request("request.host"),
            Field::Scheme => of_request("request.scheme"),
            Field::RequestId => of_request("request.id"),
            Field::UserAgent => of_request("request.useragent"),
            Field::Protocol => of_request("request.protocol"),
            Field::Header(name) => self.header(name).map_or(Value::Nothing, |text| Value::Text(Cow::Borrowed(text))),
            Field::RequestSize => number(self.received_bytes),
            Field::ResponseSize => number(self.sent_bytes),
            Field::Duration => Value::Number(self.duration.as_secs_f64() * 1000.0),
            Field::Code if self.status == 0 => Value::Nothing,
            Field::Code => number(self.status.into()),
            Field::Flags => text("response.flags"),
            Field::CodeDetails => text("response.code_details"),
            Field::GrpcStatus => self.grpc_status.map_or(Value::Nothing, |status| number(status.into())),
            Field::Mtls => Value::Truth(self.security == Security::MutualTls),
            Field::ServerName => text("connection.requested_server_name"),
            Field::Source(of) => text(match of {
                Party::Address => "source.address",
                Party::Principal => "source.principal",
                Party::Workload => "source.workload",
                Party::Namespace => "source.namespace",
            }),
            Field::Destination(of) => text(match of {
                Party::Address => "destination.address",
                Party::Principal => "destination.principal",
                Party::Workload => "destination.workload",
                Party::Namespace => "destination.namespace",
            }),
        }
    }
}
