"""Whether a model reads the film: what it answers to films and words that were changed. Writes no report itself."""
