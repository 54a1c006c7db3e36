"""Load on a real API server: what the webhook costs it, and how soon a change has an effect.

Run it with ``make bench ARGS=cluster``. ``__main__.py`` describes the run, and ``README.md`` explains the
figures.
"""
