"""One module per command: it reads options, calls the package that does the work, and prints."""
