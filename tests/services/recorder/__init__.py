"""The recorder: its pure parts, and the whole on both brokers and both databases."""
