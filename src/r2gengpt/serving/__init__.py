"""The HTTP server: requests in, drafts of reports out. No model code."""
