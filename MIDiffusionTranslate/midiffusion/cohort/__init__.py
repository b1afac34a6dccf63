"""Cohorts: many volumes through one process, resumable, in shards; reports and BIDS."""
