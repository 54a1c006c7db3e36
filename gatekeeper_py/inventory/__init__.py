"""What already runs: paged lists of the cluster, every image judged, grouped by image."""
