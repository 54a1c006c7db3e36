// The peer that is hand-tuned Go; built by ../building.py.
module gatekeeper-py/benchmarks/peers/nethttp

go 1.26.0
