//! The certificate authority: who may have which certificate, and the key that signs them.
