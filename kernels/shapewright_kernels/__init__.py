"""Numeric kernels of Shapewright: array functions, compiled by Numba at first use, which know nothing of the framework."""
