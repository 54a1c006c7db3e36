"""A Kubernetes admission webhook that lets a cluster run only images from approved registries."""

from importlib.metadata import version

__version__ = version("gatekeeper-py")
