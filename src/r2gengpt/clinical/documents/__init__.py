"""A draft as DICOM, FHIR, HL7 and PDF. Sends nothing."""
