"""The policy and the exceptions in use, and how they change."""
