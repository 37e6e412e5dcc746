//! What is served: xDS and the CA on one TLS port, and the pages for people and Prometheus.

pub mod admission;
pub mod grpc;
mod http2;
pub mod pages;
