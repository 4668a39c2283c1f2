"""The user's settings: read once from a :class:`~pytest_etcdtls.settings.source.Source`, checked, immutable.

Reading them opens no connection.
"""
