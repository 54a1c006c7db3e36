"""Child processes that handle what strangers send, so that none of it can stop or exhaust the server."""
