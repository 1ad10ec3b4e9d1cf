"""Scores of reports: protocols, BLEU, ROUGE-L, CIDEr-D. No torch."""
