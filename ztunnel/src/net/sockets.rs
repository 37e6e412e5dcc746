//! Sockets for pods: listeners, originals of redirected connections, marks and kept source addresses.
