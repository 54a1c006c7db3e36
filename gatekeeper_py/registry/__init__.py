"""Look-ups of images in their registries. No other package contacts image registries."""
