"""Fidelity protocol: data sets, metrics, baselines, tables."""
