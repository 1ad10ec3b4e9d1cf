"""Reports on their way into a hospital: documents, and the loop with an archive. No model."""
