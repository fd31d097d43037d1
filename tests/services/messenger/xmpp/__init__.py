"""Tests of instant messages."""
