"""Measurements beside a peer, from one run on one machine: ``python -m bench.<name>`` prints both and the ratio."""
