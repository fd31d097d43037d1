"""Tests of the assembly: options, daemons as services, workers of one's own, settings that reach what they are for."""
