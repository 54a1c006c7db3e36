"""The documentation site: the hooks of MkDocs, and a browser that checks the pages."""
