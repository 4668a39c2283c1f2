"""Facts of a listener or a cluster: frozen values, and the probes that observe them."""
