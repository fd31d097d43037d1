"""The steps by which a slice moves the rows of the ledger, in statements of each database's own."""
