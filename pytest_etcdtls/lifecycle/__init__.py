"""Experiments on clusters made for them: what etcd does when files or flags change."""
