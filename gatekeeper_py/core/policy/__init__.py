"""The policy document: what it says, and what it decides."""
