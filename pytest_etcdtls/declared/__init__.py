"""What a cluster was told to be, and what etcd makes of it. Knows no pytest, no probe and no connection."""
