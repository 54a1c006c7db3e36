"""An HTTPS server that nobody can exhaust: listener, TLS, connections, limits, health and pages."""
