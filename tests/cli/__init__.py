"""The command line, called as people and scripts call it."""
