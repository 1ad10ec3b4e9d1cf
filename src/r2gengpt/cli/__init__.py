"""The command line: parses, calls what is below, delivers. Nothing below imports it."""
