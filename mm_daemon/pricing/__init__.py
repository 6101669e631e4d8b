"""THE MATHEMATICS: stateless, vectorised option pricing on float64 arrays.

Everything here is a function of its arguments. Kernels are compiled ahead of use by numba without
fast-math, because two machines must produce the same bits from the same inputs. Only the fitting
modules may import scipy; they run in another process and never inside the decision.
"""
