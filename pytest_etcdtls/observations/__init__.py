"""Facts got from the wire or a file, as immutable values. No sockets, no judgement."""
