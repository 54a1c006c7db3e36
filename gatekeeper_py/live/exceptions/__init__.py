"""Documents with exceptions from a source, parsed in the parser process, as the exceptions in use."""
