"""The API server: configuration, session, proxy, JSON client, errors; certificates for the webhook."""
