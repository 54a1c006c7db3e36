"""Open connections: who may keep one, TLS, HTTP framing and the limits of each."""
