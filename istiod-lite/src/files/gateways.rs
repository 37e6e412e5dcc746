//! Gateway and GatewayClass.

use super::{
    field::{Field, Notes},
    workloads::ip,
};
use crate::facts::{
    Admits, Gateway, GatewayAddress, GatewayClass, LabelAsks, LabelExpression, LabelSelector, Listener, Meta,
};

/// A Gateway. What is said of a listener and cannot be read is a reason to keep what was said before; what others
/// write into its status is not.
pub(super) fn gateway(object: &Field<'_>, meta: Meta, notes: &Notes) -> Gateway {
    let spec = object.at("spec");
    let class = spec.at("gatewayClassName").text().unwrap_or_default();
    let listeners = spec.at("listeners").list().iter().map(listener).collect();
    let refused = notes.listed();
    // What is said for the pods takes the place of what the object says of itself.
    let pods = spec.at("infrastructure").at("annotations");
    let annotations = if pods.is_there() { pods } else { object.at("metadata").at("annotations") };
    Gateway {
        forward_client_identity: annotations.key("ambient.istio.io/xfcc-include-client-identity").is_true(),
        class,
        listeners,
        refused,
        addresses: object.at("status").at("addresses").list().iter().filter_map(address).collect(),
        meta,
    }
}

pub(super) fn gateway_class(object: &Field<'_>, meta: Meta) -> GatewayClass {
    GatewayClass { controller: object.at("spec").at("controllerName").text().unwrap_or_default(), meta }
}

/// A listener; of what cannot be read it keeps nothing, so that it serves and admits nobody by it.
fn listener(field: &Field<'_>) -> Listener {
    Listener {
        name: field.at("name").text().unwrap_or_default(),
        port: field.at("port").port().unwrap_or_default(),
        protocol: field.at("protocol").text().unwrap_or_default(),
        admits: admits(&field.at("allowedRoutes").at("namespaces")),
    }
}

fn admits(field: &Field<'_>) -> Admits {
    let from = field.at("from");
    if !from.is_there() {
        return Admits::Same;
    }
    match from.text().as_deref() {
        Some("Same") => Admits::Same,
        Some("All") => Admits::All,
        Some("None") => Admits::None,
        Some("Selector") => selector(&field.at("selector")).map_or(Admits::None, Admits::Selected),
        _ => {
            from.note("is none of Same, All, Selector, None; no namespace is admitted");
            Admits::None
        }
    }
}

/// A label selector; `None` when it cannot be read whole, because less of it would select more.
pub(super) fn selector(field: &Field<'_>) -> Option<LabelSelector> {
    if !field.is_there() {
        field.note("is missing; nothing is selected");
        return None;
    }
    let unknown = field.unknown(&["matchLabels", "matchExpressions"]);
    if let Some(key) = unknown.first() {
        field.key(key).note("is not a field of a label selector; nothing is selected");
        return None;
    }
    let said = field.at("matchLabels").members();
    let labels = field.at("matchLabels").labels();
    if labels.len() != said.len() {
        return None;
    }
    let expressions = field.at("matchExpressions").list().iter().map(expression).collect::<Option<_>>()?;
    Some(LabelSelector { labels, expressions })
}

fn expression(field: &Field<'_>) -> Option<LabelExpression> {
    let key = field.at("key").text();
    let said = field.at("values").list();
    let values: std::collections::BTreeSet<_> = said.iter().filter_map(Field::text).collect();
    let asks = match field.at("operator").text().as_deref() {
        Some("In") => Some(LabelAsks::In(values)),
        Some("NotIn") => Some(LabelAsks::NotIn(values)),
        Some("Exists") => Some(LabelAsks::Exists),
        Some("DoesNotExist") => Some(LabelAsks::DoesNotExist),
        _ => None,
    };
    let listed = matches!(asks, Some(LabelAsks::In(_) | LabelAsks::NotIn(_)));
    if asks.is_none() || key.is_none() || listed == said.is_empty() {
        field.note("needs a key, an operator (In, NotIn, Exists, DoesNotExist) and values where it asks for them; nothing is selected");
        return None;
    }
    Some(LabelExpression { key: key?, asks: asks? })
}

fn address(field: &Field<'_>) -> Option<GatewayAddress> {
    let value = field.at("value");
    let text = value.text().filter(|text| !text.is_empty())?;
    match field.at("type").text().as_deref() {
        None | Some("IPAddress") => ip(&value).map(GatewayAddress::Ip),
        Some("Hostname") => Some(GatewayAddress::Hostname(text.to_ascii_lowercase().into())),
        Some(_) => {
            field.at("type").note("is neither IPAddress nor Hostname; the address is left out");
            None
        }
    }
}
