"""`midiffusion benchmark speed`: where the time of a translation goes, and how it grows."""
