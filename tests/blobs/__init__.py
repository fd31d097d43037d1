"""Tests of msgd.blobs."""
