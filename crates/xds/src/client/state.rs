//! What a client knows and answers; pure.
