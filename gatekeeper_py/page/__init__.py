"""Self-contained HTML pages: what the audit, ``diff`` and the status page are made of. Pure: no I/O."""
