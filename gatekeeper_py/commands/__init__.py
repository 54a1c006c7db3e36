"""One module per command, thin: arguments in, the core's answer out."""
