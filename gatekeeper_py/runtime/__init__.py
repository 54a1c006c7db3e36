"""The process: event loop, signals, memory and logs."""
