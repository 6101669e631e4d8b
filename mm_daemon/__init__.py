"""A market-making daemon for crypto options."""
