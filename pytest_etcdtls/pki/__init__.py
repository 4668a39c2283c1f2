"""Keys, certificates, certificate lists and identities. No sockets, no etcd flags."""
