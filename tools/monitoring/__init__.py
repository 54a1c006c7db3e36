"""The Grafana dashboard in ``monitoring/``: write it, and check it against Grafana's types."""
