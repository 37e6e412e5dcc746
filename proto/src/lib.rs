//! The wire contract: message types generated from `proto/*.proto`.
//!
//! Only `xds`, `pki` and the node agent's ZDS codec may name this crate; everybody else
//! speaks the words of `mesh`. It never holds logic.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::nursery, clippy::use_self, clippy::or_fun_call)]

/// `istio.workload`: workloads and services, and `zds`, how pods reach the node proxy.
pub mod workload {
    tonic::include_proto!("istio.workload");

    pub mod zds {
        tonic::include_proto!("istio.workload.zds");
    }
}

/// `istio.security`: L4 authorization.
pub mod security {
    tonic::include_proto!("istio.security");
}

/// `istio.v1.auth`: the certificate service.
pub mod citadel {
    tonic::include_proto!("istio.v1.auth");
}

/// `envoy.service.discovery.v3`: delta ADS.
pub mod discovery {
    tonic::include_proto!("envoy.service.discovery.v3");
}
