"""Moves all that a database holds to another one: from SQLite to PostgreSQL, and back."""
