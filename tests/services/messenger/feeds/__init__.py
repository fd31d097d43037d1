"""Feeds, and hosts that send anything in their place."""
