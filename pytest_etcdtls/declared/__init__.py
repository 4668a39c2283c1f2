"""Declarations of etcd members, and the configuration that etcd derives from them."""
