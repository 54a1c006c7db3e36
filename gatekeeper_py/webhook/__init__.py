"""Answers reviews."""
