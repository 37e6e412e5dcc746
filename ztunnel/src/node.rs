//! What every connection of this node may use.
