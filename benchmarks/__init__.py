"""Checks too long for the tests, each a module to run: ``python -m benchmarks.analytic``."""
