"""Tests, in the tree of ``msgd`` itself.

``contract`` holds one suite per interface, run on every implementation; ``stories`` what a user sees, in a browser;
``servers`` the real peers (RabbitMQ, PostgreSQL, Chromium), each started for the tests that need it.
"""
