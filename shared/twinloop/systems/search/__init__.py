"""Which documents answer a query."""
