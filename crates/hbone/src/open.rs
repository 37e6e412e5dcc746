//! The sending end of one connection: handshake, requests, and whether it still lives.
