"""Local mutual information: definition, estimators, and the layer that offers them."""

from .layer import LocalMutualInformation, Responses

__all__ = ["LocalMutualInformation", "Responses"]
