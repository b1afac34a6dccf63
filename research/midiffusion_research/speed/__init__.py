"""`midiffusion-research speed`: where the time of a translation goes, and how it grows."""
