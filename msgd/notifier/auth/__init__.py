"""Tokens: who makes them is elsewhere; here they become principals, until they end or are taken back.

===============  =============================================================================================
``tokens``       tokens to principals: verification, claims, rights
``keys``         what tokens are verified with, and how keys are read (pure)
``keys_file``    keys in files: the secret, made if need be, and public keys
``jwks``         keys behind a URL; ``freshness``: how long what it answered may be relied on (pure)
``entry``        from a token to a principal at the door, where strangers try their luck
``revocations``  tokens taken back, kept up with the database on every notifier
``revoked``      which tokens those are (pure); ``store`` and ``tables``: in the database
``signing``      tokens made here, for the command line and tests
===============  =============================================================================================
"""
