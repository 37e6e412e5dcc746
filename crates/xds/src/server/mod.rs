//! The server: what a control plane runs to tell node proxies of the mesh.

