"""Keep the webhooks' match conditions in step with the policy."""
