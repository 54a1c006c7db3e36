"""A policy compiled to native admission policies, which the API server evaluates itself."""
