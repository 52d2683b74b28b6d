"""Submissions that want more than they earned, and what measures the damage they do."""
