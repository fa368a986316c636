"""The store on PostgreSQL: see docs/architecture.md."""
