//! Workload programs of the lab.
