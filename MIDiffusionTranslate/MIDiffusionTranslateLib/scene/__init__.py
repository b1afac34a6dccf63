"""Volumes, results, tables and comparisons in the MRML scene. Main thread only."""
