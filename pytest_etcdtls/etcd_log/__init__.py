"""etcd's log: reading and explaining it, and matching it with our attempts."""
