"""Between an archive and the model: films come in by DICOM, reports go back. No model, no form of a report."""
