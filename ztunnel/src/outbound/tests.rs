use super::*;
use crate::inbound::plaintext;

/// What a function's future takes, which one cannot have without its arguments.
fn size<A, B, C, D, F: Future>(_: impl Fn(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

/// Ten thousand idle connections are ten thousand of these: what only connecting wants must not be in
/// them. It was 11,500 bytes when it was.
#[test]
fn a_connection_that_only_relays_is_small() {
    assert!(size(serve) <= 256, "{}", size(serve));
    assert!(size(plaintext::serve) <= 288, "{}", size(plaintext::serve));
}
