"""METEOR 1.5: the jar's statistics, and a form without Java. No other metric."""
