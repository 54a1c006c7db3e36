"""How the policy is asked: sockets, TLS, HTTP."""
