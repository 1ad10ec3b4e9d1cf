"""Chest films from bytes: PNG, JPEG and DICOM to one record of header and picture. No study, no model."""
