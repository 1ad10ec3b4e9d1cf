"""The tables' history: a step a file in `versions`, run when a store is opened. No step is changed later."""
