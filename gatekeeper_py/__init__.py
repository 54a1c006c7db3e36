"""A Kubernetes admission webhook that lets a cluster run only images from approved registries."""

# importlib.metadata would read both of the installed package, but importing it takes half a megabyte in each
# server. A test compares them with pyproject.toml.
__version__ = "0.1.0"
DISTRIBUTION = "kube-image-gatekeeper"
"""The name of the Python package. On the package index, `gatekeeper-py` is another project."""
