"""One behavioural suite over both databases."""
