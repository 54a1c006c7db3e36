"""A guard on the hot path that no noise can trip: what one review makes the interpreter do."""
