"""Local mutual information: definition, estimators, and the layer that offers them."""

from midiffusion.lmi.layer import LocalMutualInformation, Responses

__all__ = ["LocalMutualInformation", "Responses"]
