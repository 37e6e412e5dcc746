//! What an answer changes of the headers and the query of a request.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};
use proto::envoy::config::core::v3::{
    HeaderValue as WireValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};

/// How a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Beside what is there.
    Append,
    /// Only if there is none.
    IfAbsent,
    /// Instead of what is there.
    Overwrite,
    /// Instead of what is there, if there is any.
    IfPresent,
}

/// One header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
    /// How it is written.
    pub how: How,
}

/// Headers that nobody who is asked may write: they say where a message ends or whom it is for.
const FRAMING: &[HeaderName] =
    &[header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE, header::TE];

/// Whether a header may be written or removed by an answer.
pub(super) fn is_free(name: &HeaderName) -> bool {
    !FRAMING.contains(name)
}

impl Edit {
    /// A header of an answer; none: it cannot be written, or may not.
    pub(super) fn of(name: &str, value: &[u8], how: How) -> Option<Self> {
        let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(is_free)?;
        Some(Self { name, value: HeaderValue::from_bytes(value).ok()?, how })
    }

    /// Headers as Envoy's services write them. Where neither `append` nor an action is said it
    /// overwrites, as Envoy's authorizer filter does.
    pub(super) fn all(options: Vec<HeaderValueOption>) -> Vec<Self> {
        let one = |option: HeaderValueOption| {
            let how = match (option.append, HeaderAppendAction::try_from(option.append_action)) {
                (Some(true), _) => How::Append,
                (None, Ok(HeaderAppendAction::AddIfAbsent)) => How::IfAbsent,
                (None, Ok(HeaderAppendAction::OverwriteIfExists)) => How::IfPresent,
                _ => How::Overwrite,
            };
            let header = option.header?;
            let value = bytes_of(&header);
            let kept = !value.is_empty() || option.keep_empty_value;
            kept.then(|| Self::of(&header.key, value, how)).flatten()
        };
        options.into_iter().filter_map(one).collect()
    }

    /// Writes it.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let present = headers.contains_key(&self.name);
        match self.how {
            How::Append => {
                headers.append(self.name.clone(), self.value.clone());
            }
            How::IfAbsent if present => {}
            How::IfPresent if !present => {}
            How::IfAbsent | How::IfPresent | How::Overwrite => {
                headers.insert(self.name.clone(), self.value.clone());
            }
        }
    }
}

/// The value of a header, whichever field has it.
fn bytes_of(header: &WireValue) -> &[u8] {
    if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value }
}

/// Headers that are added one by one.
pub(super) fn headers_of(values: &[WireValue]) -> HeaderMap {
    values.iter().filter_map(|value| Edit::of(&value.key, bytes_of(value), How::Append)).fold(
        HeaderMap::new(),
        |mut headers, edit| {
            edit.apply(&mut headers);
            headers
        },
    )
}

/// Sets and removes parameters of a query; the others stay as they are written.
pub(super) fn edit_query(uri: &mut Uri, set: &[(String, String)], remove: &[String]) {
    if set.is_empty() && remove.is_empty() {
        return;
    }
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let gone = |pair: &&str| remove.contains(&name(pair)) || set.iter().any(|(key, _)| *key == name(pair));
    let kept = uri.query().into_iter().flat_map(|query| query.split('&')).filter(|pair| !gone(pair)).map(str::to_owned);
    let query: Vec<String> =
        kept.chain(set.iter().map(|(key, value)| format!("{}={}", plain(key), plain(value)))).collect();
    let path = uri.path();
    let text = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
    let mut parts = uri.clone().into_parts();
    if let Ok(edited) = text.parse::<PathAndQuery>() {
        parts.path_and_query = Some(edited);
        *uri = Uri::from_parts(parts).unwrap_or_else(|_| uri.clone());
    }
}

/// Percent-encodes what would end a parameter or a query.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => plain.push(byte.into()),
            _ => plain.push_str(&format!("%{byte:02X}")),
        }
    }
    plain
}
