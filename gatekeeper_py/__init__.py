"""A Kubernetes admission webhook that lets a cluster run only images from approved registries."""

# importlib.metadata would read the version of the installed package, but importing it takes half a megabyte
# in each server. A test compares this with pyproject.toml.
__version__ = "0.1.0"
