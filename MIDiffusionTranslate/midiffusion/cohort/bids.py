"""`midiffusion bids` and `midiffusion-bids`: a BIDS App.

    midiffusion-bids BIDS OUT participant --from-suffix T2w --to t1
    midiffusion-bids BIDS OUT group --to t1

`participant` translates the volumes of a BIDS dataset into derivatives, `group` writes the quality
report. File names follow BIDS 1.10 (bids-specification.readthedocs.io): entities of the source,
then `desc-synthetic` and the suffix of the target.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..arguments import Arguments, UsageError
from ..errors import InvalidData, UnreadableFile, UnwritableTarget
from ..models import registry
from ..pipeline.option_arguments import options_of
from ..runtime import console
from .batch_command import add_options, run
from .items import Item
from .report import write_report
from .shards import Shard

SUFFIXES = {"t1": "T1w", "t2": "T2w", "pd": "PDw", "flair": "FLAIR", "ct": "ct"}
FOLDERS = ("anat", "ct")
IGNORED = (
    "status*.tsv",
    "report.html",
    ".thumbnails/",
    ".claims/",
    "*_errormap.nii.gz",
    "*_ct.*",
)
_README = """Synthetic volumes made by MIDiffusion.

They were not acquired: a network drew them from the dataset in dataset_description.json. Research
use only, not for diagnosis. Each volume has a sidecar (model, options, warnings) and an error map,
the expected absolute error."""
_ENDING = re.compile(r"\.nii(\.gz)?$")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the number of failed translations, at most 99."""
    args = _parser().parse_args(argv)
    dataset, out = Path(args.bids), Path(args.out)
    if args.level == "group":
        console.say(str(write_report(out)))
        return 0
    if args.from_suffix is None:
        raise UsageError("participant needs --from-suffix, the suffix of the sources, as in T2w.")
    _check_dataset(dataset)
    items = find_sources(
        dataset, args.from_suffix, args.participant_label, args.session_label, _filter(args)
    )
    if not args.to:
        raise UsageError("participant needs --to, the target model, as in t1.")
    contrasts = {}
    for name in args.to:
        entry = registry.find(name, args.model_folder)
        assert entry.card is not None  # find refuses an entry without
        contrasts[entry.id] = entry.card.contrast
    _describe(out, dataset)
    from .batch import Batch

    batch = Batch(
        items,
        args.to,
        out,
        options_of(args),
        model_folder=args.model_folder,
        resume=args.resume,
        shard=Shard.parse(args.shard) if args.shard else Shard.of_environment(),
        result=lambda item, model: out / derivative(item.name, model, contrasts[model]),
        extra=_fields,
    )
    return run(batch, args)


def find_sources(
    dataset: Path,
    suffix: str,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    entities: dict[str, Any] | None = None,
) -> list[Item]:
    """The volumes of a dataset with a suffix, by name.

    Args:
        dataset: folder with `dataset_description.json`.
        suffix: for example "T2w".
        participants, sessions: labels with or without "sub-" and "ses-"; empty for all.
        entities: wanted values by name (a text, a pattern or a list), as in a BIDS filter file.

    Raises:
        InvalidData: there is none, or a participant is not in the dataset.
    """
    known = sorted(path.name for path in dataset.glob("sub-*") if path.is_dir())
    wanted = [f"sub-{label.removeprefix('sub-')}" for label in participants]
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise InvalidData(f"{dataset} has no {', '.join(missing)}: check --participant-label.")
    labels = {label.removeprefix("ses-") for label in sessions}
    items = []
    for subject in wanted or known:
        for folder in FOLDERS:
            for path in sorted(dataset.glob(f"{subject}/**/{folder}/*_{suffix}.nii*")):
                found = entities_of(path.name)
                chosen = (not labels or found.get("ses") in labels) and _matches(found, entities)
                if _ENDING.search(path.name) and chosen and "synthetic" not in path.name:
                    items.append(Item(path.relative_to(dataset).as_posix(), path))
    if not items:
        seen = {p.name.split("_")[-1].split(".")[0] for p in dataset.glob("sub-*/**/*.nii*")}
        raise InvalidData(
            f"{dataset} has no such volumes *_{suffix}.nii.gz (its suffixes: "
            f"{', '.join(sorted(seen)) or 'none'}): check --from-suffix and the labels."
        )
    return items


def entities_of(name: str) -> dict[str, str]:
    """Entities of a BIDS file name: {"sub": "01", "ses": "pre", ...}."""
    return dict(p.split("-", 1) for p in name.split("_") if "-" in p)


def derivative(source: str, model: str, contrast: str) -> str:
    """Path of a result: entities of the source, `desc-synthetic` (with the id of a model that is
    not one of ours), suffix of the target."""
    place, _, name = source.rpartition("/")
    parts = [p for p in _ENDING.sub("", name).split("_")[:-1] if not p.startswith("desc-")]
    own = "" if model in SUFFIXES else re.sub("[^A-Za-z0-9]", "", model)
    return f"{place}/{'_'.join(parts)}_desc-synthetic{own}_{SUFFIXES[contrast]}.nii.gz"


def _fields(item: Item) -> dict[str, Any]:
    """Fields of a derivative's sidecar that BIDS asks for."""
    beside = item.source.with_name(_ENDING.sub(".json", item.source.name))
    try:
        stripped = bool(json.loads(beside.read_text(encoding="utf-8")).get("SkullStripped"))
    except (OSError, ValueError, AttributeError):
        stripped = False
    return {
        "Description": "Synthetic volume, drawn by MIDiffusion from another modality; not "
        "acquired. Research use only, not for diagnosis.",
        "Sources": [f"bids:raw:{item.name}"],
        "SkullStripped": stripped,
    }


def _matches(found: dict[str, str], wanted: dict[str, Any] | None) -> bool:
    long = {"subject": "sub", "session": "ses", "acquisition": "acq", "reconstruction": "rec"}
    for name, value in (wanted or {}).items():
        values = [str(v) for v in (value if isinstance(value, list) else [value])]
        own = found.get(long.get(name, name))
        if value is None:
            if own is not None:
                return False
        elif not any(own is not None and fnmatch.fnmatchcase(own, v) for v in values):
            return False
    return True


def _filter(args: argparse.Namespace) -> dict[str, Any]:
    """The entities of --bids-filter-file for the suffix. Raises InvalidData."""
    path = args.bids_filter_file
    if path is None:
        return {}
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        queries = {name.lower(): query for name, query in document.items()}
        query = queries.get(args.from_suffix.lower(), {})
        return {k: v for k, v in query.items() if k not in ("suffix", "datatype", "extension")}
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidData(
            f'{path} can\'t be used ({error}): give JSON such as {{"T2w": {{"session": "pre"}}}}.'
        ) from error


def _check_dataset(dataset: Path) -> None:
    if not dataset.is_dir():
        raise UnreadableFile(f"There is no folder {dataset}: give the root of a BIDS dataset.")
    if not (dataset / "dataset_description.json").is_file():
        raise InvalidData(
            f"{dataset} has no dataset_description.json: give the root of a BIDS dataset."
        )


def _describe(out: Path, dataset: Path) -> None:
    """`dataset_description.json` and `.bidsignore` of the derivatives."""
    description = {
        "Name": "MIDiffusion: synthetic volumes",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "Authors": ["The MIDiffusion contributors"],
        "GeneratedBy": [
            {
                "Name": "MIDiffusion",
                "Version": __version__,
                "Description": "Zero-shot translation between modalities. Synthetic images: "
                "research use only, not for diagnosis.",
                "CodeURL": "https://github.com/MIDiffusion/SlicerMIDiffusion",
            }
        ],
        "DatasetLinks": {"raw": dataset.resolve().as_uri()},
        "SourceDatasets": [{"URL": dataset.resolve().as_uri()}],
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("dataset_description.json", json.dumps(description, indent=1)),
            (".bidsignore", "\n".join(IGNORED)),
            ("README", _README),
        ):
            (out / name).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UnwritableTarget(
            f"{out} can't be written ({error}): choose another folder."
        ) from error


def _parser() -> Arguments:
    parser = Arguments(
        prog="midiffusion-bids",
        description="BIDS App: translate the volumes of a BIDS dataset. Research use only, not for "
        "diagnosis.",
        epilog="Exit code: the number of failed translations, at most 99.",
    )
    add = parser.add_argument
    add("bids", metavar="BIDS", help="root of the dataset")
    add("out", metavar="OUT", help="folder of the derivatives")
    add("level", choices=("participant", "group"), help="translate, or write the report")
    add("--from-suffix", metavar="SUFFIX", help="suffix of the sources, as in T2w")
    add("--participant-label", nargs="+", default=[], metavar="LABEL", help="default: all")
    add("--session-label", nargs="+", default=[], metavar="LABEL", help="default: all")
    add("--bids-filter-file", metavar="F", help='JSON: {"T2w": {"session": "pre"}}')
    add("-w", "--work-dir", metavar="DIR", help="accepted; nothing is stored there")
    add_options(parser, to_required=False)
    return parser
