"""What the webhook costs the API server that asks it: creates of Pods, and Deployments scaled up and down.

``make bench-churn``; see ``__main__.py`` for what it does and ``README.md`` for what the numbers mean.
"""
