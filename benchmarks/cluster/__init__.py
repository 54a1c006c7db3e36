"""Benchmarks on a real API server: the cost of the webhook, and the time until a change takes effect.

Run it with ``make bench ARGS=cluster``. ``__main__.py`` describes the run, and ``README.md`` explains the
figures.
"""
