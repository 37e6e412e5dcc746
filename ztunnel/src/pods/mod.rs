//! Which pods are ours, and the listeners of each.
