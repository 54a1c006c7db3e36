// creator sends Pod creates for benchmarks/churn; built by ../creating.py.
module gatekeeper-py/benchmarks/churn/creator

go 1.21
