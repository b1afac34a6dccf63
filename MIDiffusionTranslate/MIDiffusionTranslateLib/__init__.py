"""What of MIDiffusion needs Slicer: the scene, the worker process seen from its side, the logic."""
