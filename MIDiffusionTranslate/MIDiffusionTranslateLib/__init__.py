"""The Slicer side of MIDiffusion: logic, panel, scene and the worker seen from Slicer."""
