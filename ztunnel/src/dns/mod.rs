//! The DNS proxy of each pod.
