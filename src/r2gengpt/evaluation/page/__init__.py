"""The report page of a test: one self-contained HTML file. Scores nothing."""
