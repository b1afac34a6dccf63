"""The BIDS App: which volumes it takes, what it writes, and the BIDS validator's verdict."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import saveTiny
from midiffusion import cli
from midiffusion.cohort.bids import derivative, find_sources
from midiffusion.errors import InvalidData
from midiffusion.images.formats import volume_files
from midiffusion.images.io import write_volume
from midiffusion.images.volume import Volume

VALIDATOR = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "bids"
    root.mkdir()
    description = {"Name": "test", "BIDSVersion": "1.10.0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    rng = np.random.default_rng(0)
    for name in (
        "sub-01/ses-pre/anat/sub-01_ses-pre_run-1_T2w.nii.gz",
        "sub-01/ses-post/anat/sub-01_ses-post_T2w.nii.gz",
        "sub-02/anat/sub-02_acq-thick_T2w.nii.gz",
        "sub-02/anat/sub-02_FLAIR.nii.gz",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        data = rng.random((3, 16, 16), dtype=np.float32)
        write_volume(root / name, Volume(data, np.diag([4.0, 4.0, 5.0, 1.0])))
    return root


@pytest.fixture
def app(dataset, tmp_path, capsys) -> Callable[..., tuple[int, str, str]]:
    model = str(saveTiny(tmp_path / "models" / "tiny"))

    def app(*words: str) -> tuple[int, str, str]:
        arguments = ["bids", str(dataset), str(tmp_path / "out"), *words]
        target = [] if "group" in words else ["--to", model, "--device", "cpu"]
        code = cli.main([*arguments, *target])
        return (code, *capsys.readouterr())

    return app


def names(dataset: Path, suffix: str, **more) -> list[str]:
    return [item.source.name for item in find_sources(dataset, suffix, **more)]


def test_sources_are_chosen_by_suffix_participant_session_and_entities(dataset):
    assert len(names(dataset, "T2w")) == 3
    assert names(dataset, "T2w", participants=["sub-02"]) == ["sub-02_acq-thick_T2w.nii.gz"]
    assert names(dataset, "T2w", sessions=["post"]) == ["sub-01_ses-post_T2w.nii.gz"]
    thick = names(dataset, "T2w", entities={"acquisition": ["th*"]})
    assert thick == ["sub-02_acq-thick_T2w.nii.gz"]


def test_unknown_participants_and_suffixes_are_refused_by_name(dataset):
    with pytest.raises(InvalidData, match="has no sub-07"):
        find_sources(dataset, "T2w", participants=["07"])
    with pytest.raises(InvalidData, match="FLAIR, T2w"):
        find_sources(dataset, "T1w")


def test_a_derivative_keeps_the_entities_and_is_no_source_later(tmp_path):
    source = "sub-01/ses-pre/anat/sub-01_ses-pre_run-1_desc-clean_T2w.nii.gz"
    made = derivative(source, "flair", "flair")
    assert made == "sub-01/ses-pre/anat/sub-01_ses-pre_run-1_desc-synthetic_FLAIR.nii.gz"
    own = derivative(source, "my model", "t1")
    assert own.endswith("_desc-syntheticmymodel_T1w.nii.gz")
    for path in (made, own):
        (tmp_path / Path(path).name).touch()
    assert volume_files(tmp_path) == []


def test_participant_in_two_shards_and_group_pass_the_validator(app, dataset, tmp_path):
    out = tmp_path / "out"
    for shard in ("1/2", "2/2"):
        assert app("participant", "--from-suffix", "T2w", "--shard", shard)[0] == 0
    code, stdout, _ = app("group")
    assert code == 0 and str(out / "report.html") in stdout
    made = out / "sub-02" / "anat" / "sub-02_acq-thick_desc-synthetictiny_FLAIR.json"
    sidecar = json.loads(made.read_text())
    assert sidecar["Synthetic"] is True
    assert sidecar["Sources"] == ["bids:raw:sub-02/anat/sub-02_acq-thick_T2w.nii.gz"]
    if sys.platform != "linux":
        return  # the validator is installed for Linux alone
    assert VALIDATOR is not None
    checked = subprocess.run(
        [VALIDATOR, str(out), "--json"], capture_output=True, text=True, timeout=120
    )
    issues = json.loads(checked.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_a_filter_file_chooses_and_a_damaged_one_is_refused(app, tmp_path):
    path = tmp_path / "filter.json"
    path.write_text('{"t2w": {"datatype": "anat", "session": "pre"}}')
    words = ("participant", "--from-suffix", "T2w", "--bids-filter-file", str(path))
    assert app(*words)[0] == 0
    results = sorted((tmp_path / "out").rglob("*_FLAIR.nii.gz"))
    assert [p.name.split("_desc")[0] for p in results] == ["sub-01_ses-pre_run-1"]
    path.write_text("{")
    code, _, err = app(*words)
    assert code == 1 and "can't be used" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(("participant",), "--from-suffix"), (("group",), "run the batch first")],
)
def test_what_is_missing_is_said(app, words, sentence):
    code, _, err = app(*words)
    assert code in (1, 2) and sentence in err
