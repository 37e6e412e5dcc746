//! The unix socket on which a running lab takes orders from other terminals.
//! Only the user who started the lab may speak to it.

pub mod protocol;

pub(crate) mod dial;
pub(crate) mod fds;
pub(crate) mod serve;
