"""Real servers for tests, started and ended by the test run."""
