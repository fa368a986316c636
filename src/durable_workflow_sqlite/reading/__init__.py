"""What people read of a store: `Reader`, and what it gives. It knows no database."""
