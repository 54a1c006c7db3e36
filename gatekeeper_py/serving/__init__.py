"""The webhook server: sockets, TLS and HTTP."""
