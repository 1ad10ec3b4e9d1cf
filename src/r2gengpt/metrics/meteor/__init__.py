"""METEOR 1.5: in Python, or by the jar that it is checked against. No other metric."""
