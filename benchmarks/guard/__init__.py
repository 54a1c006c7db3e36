"""A guard on the hot path: the instructions that one review executes, which do not depend on noise."""
