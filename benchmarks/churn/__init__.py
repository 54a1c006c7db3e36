"""The cost of the webhook in an API server: creates of Pods, and Deployments scaled up and down.

``make bench-churn``; see ``__main__.py`` for what it does and ``README.md`` for what the numbers mean.
"""
