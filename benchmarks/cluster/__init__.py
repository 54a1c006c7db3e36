"""The comparison with other products on a real API server: ``make compare``. See ``README.md``."""
