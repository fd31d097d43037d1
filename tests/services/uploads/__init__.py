"""Tests of uploads over HTTP."""
