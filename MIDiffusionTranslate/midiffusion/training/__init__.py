"""Training of target models: data, augmentation, loop."""
