"""What the user asked for, read once, checked, and from then on immutable.

Does not know where values come from (that is :class:`~pytest_etcdtls.settings.source.Source`) and
touches no network.
"""
