"""Talk to the API server: configuration, session, proxy, JSON client, errors."""
