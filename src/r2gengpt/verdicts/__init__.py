"""What readers made of drafts: records, their store in SQLite or PostgreSQL, and what they say together. No HTTP."""
