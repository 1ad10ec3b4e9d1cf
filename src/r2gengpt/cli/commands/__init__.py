"""One file a command: parse, call, deliver. No logic of their own."""
