"""Work items of a DICOM worklist (UPS-RS): claimed, performed, completed or canceled. Loads no model."""
