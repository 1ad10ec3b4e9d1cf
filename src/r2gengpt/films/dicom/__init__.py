"""DICOM files: what they say of themselves, and their pixels as a viewer would first show them. No study."""
