"""The store on PostgreSQL. It is in the making: see docs/architecture.md."""
