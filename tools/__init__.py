"""What builds and checks the product: imported by tests and benchmarks, no part of the package."""
