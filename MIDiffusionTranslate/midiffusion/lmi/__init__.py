"""Local mutual information: definition, estimator, and the layer that offers it."""

from .layer import LocalMutualInformation, Responses

__all__ = ["LocalMutualInformation", "Responses"]
