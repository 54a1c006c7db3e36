"""Exceptions: images that a document other than the policy approves for a limited time.

A grant in the policy limits which images a document can approve, where, and for how long. Each decision
compares grants and documents, so that nothing depends on an earlier check of a document.
"""
