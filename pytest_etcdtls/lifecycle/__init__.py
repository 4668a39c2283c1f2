"""Experiments on dedicated clusters: the effect of changed files and flags on etcd."""
