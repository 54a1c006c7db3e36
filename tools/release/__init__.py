"""Build everything that a release publishes, so that two builds of one commit give the same files."""
