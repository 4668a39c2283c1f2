"""Starting an etcd of our own, as a process or in a container. Judges nothing."""
