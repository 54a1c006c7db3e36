"""Output formats: what people read on a terminal, and what tools read."""
