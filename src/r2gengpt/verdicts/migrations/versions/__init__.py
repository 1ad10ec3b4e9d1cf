"""One step of the tables each."""
