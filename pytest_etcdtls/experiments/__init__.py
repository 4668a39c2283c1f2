"""Experiments: what an etcd does when its files or flags change, tried on clusters made for nothing else."""
