"""Load on a server from outside: the scenarios of ``python -m benchmarks.load``."""
