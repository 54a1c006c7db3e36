"""What commands read: files, policies, exceptions, manifests, and the objects of a cluster."""
