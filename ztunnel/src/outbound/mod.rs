//! What a pod sends: decide, connect, relay.
