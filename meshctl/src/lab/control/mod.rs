//! The unix socket on which a running lab takes orders from other terminals.

pub mod protocol;
