//! The node agent: which pods are in, and their redirection.
