"""Numeric kernels of Shapewright: pure array functions, compiled by Numba at first use, no knowledge of the framework."""
