"""Text -> PolicyDocument. Only processes that parse import this package and its libraries."""
