//! The L7 proxy of a namespace.
//!
//! A waypoint takes what is sent to the services bound to it through mutually authenticated tunnels,
//! reads it as HTTP where it is HTTP, asks the policies, and sends it on as the routes want it.
//!
//! Reading order:
//!
//! | room | what it is for |
//! |---|---|
//! | [`app`] | wiring: the whole process on one screen |
//! | [`config`] | what the environment says, parsed once |
//! | [`context`] | what every request and connection may use |
//! | [`accept`] | tunnels: who is there |
//! | [`target`] | what was asked for, and whether it is ours to serve |
//! | [`serve`] | what is spoken on a tunnel; HTTP/1 and 2 |
//! | [`pipeline`] | a request: the phases, in order |
//! | [`phase`] | the phases |
//! | [`body`], [`answer`] | bodies on their way, there and back |
//! | [`upstream`] | how an endpoint is chosen and reached |
//! | [`siblings`] | other replicas, which share rate limits |
//! | [`tcp`] | connections that are not read as HTTP |
//! | [`live`] | open ones; closes those that policy came to forbid |
//! | [`rules`], [`view`] | the rules and the mesh of now |
//! | [`authn`] | tokens |
//! | [`external`] | services that are asked while a request waits |
//! | [`adaptive`], [`budget`], [`outlier`] | how much a destination bears, and which endpoints fail |
//! | [`limit`] | how many requests may pass |
//! | [`report`] | the access log and the metrics |
//! | [`digits`] | numbers and addresses as text, quickly |
//! | [`trace`] | which trace a request belongs to, and its span |
//! | [`admin`] | the config dump and what else an operator may ask |
//! | [`limits`] | every number, with its reason |
//!
//! No request path here calls the control plane, and nothing but a proven certificate says who asks.

pub mod accept;
pub mod adaptive;
pub mod admin;
pub mod answer;
pub mod app;
pub mod authn;
pub mod body;
pub mod budget;
pub mod config;
pub mod context;
pub mod digits;
pub mod external;
pub mod limit;
pub mod limits;
pub mod live;
pub mod outlier;
pub mod phase;
pub mod pipeline;
pub mod report;
pub mod rules;
pub mod serve;
pub mod siblings;
pub mod target;
pub mod tcp;
pub mod trace;
pub mod upstream;
pub mod view;

pub use app::main;
