"""``gatekeeper-py status``: what an installation looks like from outside, and what is wrong with it."""
