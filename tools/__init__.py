"""Programs that build and check the product. Tests and benchmarks import them; the package does not."""
