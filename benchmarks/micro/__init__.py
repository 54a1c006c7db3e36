"""The core's single steps, timed by pyperf; every answer is asserted before it is timed."""
