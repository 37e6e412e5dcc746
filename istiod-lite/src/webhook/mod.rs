//! The validation webhook: tells the author of an object that it cannot work before it is stored.
//!
//! Rooms, in reading order: [`verdict`] (what is refused, and what is only warned of) · [`review`] (the
//! question and the answer, as Kubernetes spells them) · [`serve()`] (HTTPS on 15017) · [`bundle`] (how the API server
//! comes to believe our certificate, and when it begins to rely on us).
//!
//! It decides by the object alone, with the very reader that the mesh is configured by. What depends on
//! other objects is a condition of the object's status, because they may come later.

pub mod bundle;
pub mod review;
mod serve;
pub mod verdict;

pub use serve::serve;
