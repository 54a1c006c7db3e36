"""``gatekeeper-py status``: the state of an installation from outside, and its problems."""
