"""What exists: the only package that contacts image registries."""
