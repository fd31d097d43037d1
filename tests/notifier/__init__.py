"""Tests of the notifier: pure parts by property, the doors on loopback over the embedded broker and SQLite."""
