"""The database toolkit, on SQLite and PostgreSQL."""
