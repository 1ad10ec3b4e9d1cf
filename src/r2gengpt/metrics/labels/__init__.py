"""CheXpert's observations from report text by rules. Not CheXbert: no model, no download."""
