"""The simulated venue and its world: deterministic, without clock, input or output."""
