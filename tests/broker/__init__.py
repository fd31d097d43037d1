"""The brokers: each against the contract, and what is its own."""
