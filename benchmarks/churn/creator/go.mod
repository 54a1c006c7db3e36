// creator sends Pod creates for benchmarks/churn; built by ../compiling.py.
module gatekeeper-py/benchmarks/churn/creator

go 1.21
