"""Hypothesis without a clock, as kernels compile at their first call, and without randomness."""

from hypothesis import settings

settings.register_profile("pricing", deadline=None, derandomize=True)
settings.load_profile("pricing")
