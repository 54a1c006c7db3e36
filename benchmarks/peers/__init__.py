"""Other servers for comparison, which make the same decision and give the same answers."""
