"""What keeps the webhook in place: its certificates and its configurations."""
