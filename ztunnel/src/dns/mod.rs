//! The DNS proxy of each pod.
//!
//! Names of the mesh are answered from the view, everything else is asked of the node's own name
//! servers from inside the pod's namespace. [`answer`] decides, [`question`] reads and writes messages, [`forward`] asks others, [`server`]
//! talks with the pod, and [`resolve`] finds the address of an endpoint that has only a name.

pub mod answer;
pub mod forward;
pub mod limits;
pub mod question;
pub mod resolve;
pub mod server;

pub use answer::Zone;
pub use resolve::Resolver;
pub use server::{Pod, Proxy};
