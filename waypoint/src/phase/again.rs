//! The body of a request, for one try or for several.

use crate::body::{Coming, Outgoing, Replay, Source};

/// The body of a request, once or again.
pub enum Body {
    /// There is none.
    Nothing,
    /// It can be sent once.
    Once(Option<Source>),
    /// It can be sent again while not too much of it has come.
    Again(Replay),
}

impl Body {
    /// A caller's body, kept for another try where one may be wanted.
    pub fn of(source: Source, incoming_is_empty: bool, again: bool) -> Self {
        match (incoming_is_empty, again) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Again(Replay::new(source)),
            (false, false) => Self::Once(Some(source)),
        }
    }

    /// For the next try.
    pub(super) fn next(&mut self) -> Outgoing {
        match self {
            Self::Nothing | Self::Once(None) => Outgoing::Empty,
            Self::Once(source) => source.take().map_or(Outgoing::Empty, |source| Outgoing::Once(Box::new(source))),
            Self::Again(replay) => Outgoing::Again(replay.attempt()),
        }
    }

    /// Whether the next try can have the whole of it.
    pub(super) fn replayable(&self) -> bool {
        match self {
            Self::Nothing => true,
            // One that was never taken up is whole still.
            Self::Once(source) => source.is_some(),
            Self::Again(replay) => replay.can_begin_again(),
        }
    }
}

/// Whether a body has an end before it begins.
pub fn is_empty(incoming: &Coming) -> bool {
    http_body::Body::is_end_stream(incoming)
}
