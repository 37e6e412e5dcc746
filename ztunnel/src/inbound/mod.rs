//! What is sent to a pod: admit, connect, relay.
