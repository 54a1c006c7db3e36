"""Reports in the cluster: the audit as ``Report`` or ``PolicyReport`` objects that dashboards read."""
