"""The one decode path, for validation, test, serve and batch. No metrics, no files."""
