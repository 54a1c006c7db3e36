"""The process: event loop, signals, long work in slices, memory, logs, children and settings."""
