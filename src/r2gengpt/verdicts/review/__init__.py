"""What verdicts say together: acceptance, corrections, drift, subgroups. Writes no page."""
