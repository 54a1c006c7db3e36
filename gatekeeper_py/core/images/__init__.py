"""Names of images, and patterns over them."""
