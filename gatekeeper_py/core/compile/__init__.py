"""Policies compiled to expressions that the API server evaluates itself."""
