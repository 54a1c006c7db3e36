"""What already runs: paged lists of the cluster -> slots -> decisions, grouped by image."""
