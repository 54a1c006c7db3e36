"""The cost of the webhook in an API server: creates of Pods, and Deployments scaled up and down.

Run it with ``make bench-churn``. ``__main__.py`` describes the run, and ``README.md`` explains the numbers.
"""
