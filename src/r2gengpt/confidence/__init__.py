"""How far a report can be relied on: calibrated sentences and evidence maps. Writes no report."""
