"""The exact difference between two policies, over every image that can be written."""
