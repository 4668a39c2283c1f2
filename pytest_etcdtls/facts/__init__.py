"""Facts of a listener or a cluster: the frozen values of one subject and the probe that gets them."""
