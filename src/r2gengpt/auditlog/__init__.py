"""Who did what with whose films: DICOM audit messages in files, chained by hashes. Knows no route and no peer."""
