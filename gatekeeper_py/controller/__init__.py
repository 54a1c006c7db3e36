"""The controller: keeps the webhook's certificates and configurations as they should be."""
