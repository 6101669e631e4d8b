"""The decision: pure state and functions from events to intents. No clock, randomness, socket,
file or log."""
