"""Records to statements and back; knows nothing of what a workflow means."""
