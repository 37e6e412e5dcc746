//! What the environment says, parsed once, all mistakes told together.
