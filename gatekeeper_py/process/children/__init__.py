"""Child processes that handle untrusted input, so that none of it can stop or exhaust the server."""
