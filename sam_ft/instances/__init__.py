"""Instances without prompts: maps that a head learns, and objects from maps."""
