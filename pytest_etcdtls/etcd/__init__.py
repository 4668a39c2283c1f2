"""Starts owned etcd clusters, as processes or in containers."""
