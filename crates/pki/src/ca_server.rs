//! The server's end of the certificate RPC, in our own words, so that the control plane never
//! names a wire type.
