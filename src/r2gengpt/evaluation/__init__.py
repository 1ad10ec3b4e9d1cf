"""From a split to predictions, scores and a report page. No training."""
