"""The store on PostgreSQL. It is in the making: `open_store` does not give it yet."""
