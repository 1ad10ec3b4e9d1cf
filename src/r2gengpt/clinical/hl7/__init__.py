"""HL7 v2 over MLLP: orders in, results out. Makes no message of a report (see `documents.hl7`)."""
