//! The wire contract: message types generated from `proto/*.proto`.
//!
//! Only `xds`, `pki`, the node agent's ZDS codec and the waypoint's clients of external services
//! may name this crate; everybody else speaks the words of `mesh`. It never holds logic.
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

/// `istiod_lite.waypoint.v1`: what a waypoint does with requests.
pub use istiod_lite::waypoint::v1 as waypoint;

/// At the depth of its package, so that it finds `istio.security`.
pub mod istiod_lite {
    pub mod waypoint {
        pub mod v1 {
            tonic::include_proto!("istiod_lite.waypoint.v1");
        }
    }
}

/// `istio.security` where other packages look for it.
mod istio {
    pub use super::security;
}

/// What a waypoint asks of external services, under Envoy's package names.
pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }

    pub mod extensions {
        pub mod common {
            pub mod ratelimit {
                pub mod v3 {
                    tonic::include_proto!("envoy.extensions.common.ratelimit.v3");
                }
            }
        }
    }

    pub mod service {
        /// `Authorization/Check`: whether a request may pass.
        pub mod auth {
            pub mod v3 {
                tonic::include_proto!("envoy.service.auth.v3");
            }
        }

        /// `RateLimitService/ShouldRateLimit`: whether a request is over a limit.
        pub mod ratelimit {
            pub mod v3 {
                tonic::include_proto!("envoy.service.ratelimit.v3");
            }
        }
    }

    pub mod r#type {
        pub mod v3 {
            tonic::include_proto!("envoy.r#type.v3");
        }
    }
}

/// `google.rpc`: what a call came to.
pub mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}
