"""Commands: what they read, what they print, and the images in use that they find."""
