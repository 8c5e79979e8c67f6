"""Reports for people: log, tables and pictures."""
