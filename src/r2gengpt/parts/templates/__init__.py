"""Chat templates filled within limits. Knows no model."""
