"""The product installed on the control plane as it is shipped, with real processes for its Pods."""
