//! Clusters in network namespaces on one machine, and the outside observer that watches them.
