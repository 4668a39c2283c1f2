"""etcd's own log: reading it, explaining it, and matching it with our attempts. Knows no pytest, no probe."""
