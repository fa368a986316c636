"""What the records of a store mean: replay, retries, sagas, waits, recovery."""
