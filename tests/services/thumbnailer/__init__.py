"""Tests of the thumbnailer."""
