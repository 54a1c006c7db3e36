"""Proof that the policy is enforced: API servers refuse a Pod that only our webhook would refuse."""
