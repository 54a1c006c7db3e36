"""distribution's registry, version 3, built from source for the tests of look-ups."""
