module gatekeeper-py/benchmarks/generator

go 1.24
