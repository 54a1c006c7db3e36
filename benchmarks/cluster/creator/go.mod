// creator sends Pod creates for benchmarks/cluster; built by ../creating.py.
module gatekeeper-py/benchmarks/cluster/creator

go 1.21
