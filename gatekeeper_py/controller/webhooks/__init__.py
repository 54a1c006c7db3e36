"""The webhook configurations: settings, templates, and how a live configuration differs."""
