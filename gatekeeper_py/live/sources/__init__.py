"""Where the policy comes from: a file or a ConfigMap, as async iterators of deliveries."""
