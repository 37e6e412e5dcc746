//! A Kubernetes cluster, as the programs of the mesh use one: objects watched as events, written
//! by server-side apply, and one leader among replicas. The only crate that names `kube::`.
//!
//! It never decides what an object means: kinds are untyped values here, as
//! [`chassis::objects`] reads them from files, so that a field nobody foresaw loses nothing.
