"""Keep the match conditions of the webhooks in step with the policy."""
