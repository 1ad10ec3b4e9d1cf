"""Training in several processes: started, joined, and their weights shared out. No training step."""
