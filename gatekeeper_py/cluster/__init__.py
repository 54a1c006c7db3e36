"""The way to the API server: configuration, session, and objects as JSON."""
