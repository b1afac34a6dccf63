"""IXI: T1, T2 and PD of nearly 600 healthy heads, as distributed.

Layout: `IXI<number>-<hospital>-<number>-<T1|T2|PD>.nii.gz`, from the archives IXI-T1.tar,
IXI-T2.tar and IXI-PD.tar, unpacked into one folder or one each. PD and T2 share a
grid; T1 is another scan, and is registered to the other of the pair (`registration`: once, a few
seconds a subject). The slices are those of PD or T2. Subjects that lack one of the two
modalities are left out.

Data: https://brain-development.org/ixi-dataset/ (CC BY-SA 3.0). Split and preprocessing: by IXI
number, see `volumes`.
"""

from __future__ import annotations

from pathlib import Path

from midiffusion.errors import InvalidData

from .registration import registered
from .subject import Subject, chosen
from .volumes import HEAD_MM, SIZES, each, in_part, model_units, paired, read

name = "ixi"
training = name
directions = ("pd:t1", "t1:pd", "t2:t1", "t1:t2", "pd:t2", "t2:pd")
bundles = {"t1": "t1"}
sizes = SIZES


def load(root: Path, direction: str, split: str, most: int | None = None) -> list[Subject]:
    """See `Dataset.load`. `root` holds the files, at any depth."""
    source, target = (modality.upper() for modality in chosen(direction, directions, name))
    files = {modality: _files(root, modality) for modality in (source, target)}
    both = {_number(s): s for s in sorted(files[source]) if s in files[target]}
    if not both:
        raise InvalidData(
            f"{root} holds {len(files[source])} files IXI*-{source}.nii.gz and "
            f"{len(files[target])} files IXI*-{target}.nii.gz and no subject with both; unpack "
            f"IXI-{source}.tar and IXI-{target}.tar and give their folder as --data."
        )

    def subject(number: str) -> Subject:
        stem = both[number]
        paths = {modality: files[modality][stem] for modality in (source, target)}
        volumes = {modality: read(path, modality) for modality, path in paths.items()}
        fixed = next(modality for modality in (source, target) if modality != "T1")
        if "T1" in volumes:
            volumes["T1"] = registered(volumes["T1"], volumes[fixed], (paths["T1"], paths[fixed]))
        units = {modality: model_units(volume) for modality, volume in volumes.items()}
        return paired(
            stem, units[source], units[target], units[fixed], split=split, field_mm=HEAD_MM
        )

    return each(name, in_part(both, split)[:most], subject)


def _files(root: Path, modality: str) -> dict[str, Path]:
    """Files of a modality by their name without it."""
    ending = f"-{modality}.nii.gz"
    found: dict[str, Path] = {}
    for path in sorted(root.rglob(f"IXI*{ending}")):
        stem = path.name[: -len(ending)]
        if stem in found:
            raise InvalidData(f"{path.name} is there twice: {found[stem]} and {path}; keep one.")
        found[stem] = path
    return found


def _number(stem: str) -> str:
    return stem.split("-")[0]
