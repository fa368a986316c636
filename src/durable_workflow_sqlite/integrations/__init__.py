"""What connects this library with others: a module for each, which needs the extra of its name."""
