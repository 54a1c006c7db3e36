"""A child process that parses policy documents, so that no document can stop or exhaust the server."""
