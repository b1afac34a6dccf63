"""A target model ready for use: `load_model("flair").translate(volume)`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..images.intensity import intensity_map
from ..images.volume import Volume
from ..models.bundle import Bundle, lmi_settings, read_bundle
from .familiarity import Familiar
from .options import TranslationOptions

if TYPE_CHECKING:
    from ..runtime.progress import Progress
    from .translate import Translation


class TargetModel:
    """A card with its networks.

    Args:
        bundle: card, backbone, denoiser (None: no samples) and look (None: nominal contrast).

    Raises:
        InvalidCard: the bundle's parts don't describe a model.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.card = bundle.card
        self.backbone = bundle.backbone.eval()
        self.denoiser = None if bundle.denoiser is None else bundle.denoiser.eval()
        self.look = bundle.look
        self.error = bundle.error
        self.backbone_sha256 = (
            bundle.card.weights_sha256 if bundle.own_backbone else bundle.card.backbone_sha256
        )
        self.familiar = {k: Familiar.from_dict(v) for k, v in bundle.config.familiar.items()}
        self.intensity = intensity_map(bundle.card.intensity)
        self.lmi = lmi_settings(bundle)
        self.multiple = bundle.backbone.network.config.multiple

    def translate(
        self,
        volume: Volume,
        options: TranslationOptions | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        drawn: dict[Any, Any] | None = None,
        **changes: Any,
    ) -> Translation:
        """See `pipeline.translate.translate`; changes: fields of `TranslationOptions`."""
        from .translate import translate

        if options is None:
            options = TranslationOptions(**changes)
        return translate(self, volume, options, on_progress, drawn)


def load_model(id_or_folder: str | Path, model_folder: str | Path | None = None) -> TargetModel:
    """A model by id or from its folder; on the CPU.

    Raises:
        UnknownModel, InvalidCard, CorruptModel, OutOfMemory.
    """
    return TargetModel(read_bundle(id_or_folder, model_folder))
