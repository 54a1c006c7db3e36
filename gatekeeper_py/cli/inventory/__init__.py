"""Images in use: list the objects of a cluster page by page, judge each image, and group the verdicts."""
