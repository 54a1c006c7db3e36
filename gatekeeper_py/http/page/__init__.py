"""Build self-contained HTML pages for ``audit``, ``diff`` and the status page. Pure: no I/O."""
