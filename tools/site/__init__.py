"""The documentation site: what MkDocs is told beyond mkdocs.yml, and a browser that looks at the pages."""
