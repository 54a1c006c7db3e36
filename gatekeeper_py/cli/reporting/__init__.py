"""Output formats for people and for tools."""
