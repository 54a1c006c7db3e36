"""A policy compiled for the API server's own evaluation."""
