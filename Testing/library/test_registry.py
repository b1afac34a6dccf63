"""Models found by id and by folder, without torch; weights compared with their card."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from midiffusion.errors import CorruptModel, InvalidCard, UnknownModel
from midiffusion.models import registry

# Stands before the code of a subprocess: importing any of these raises as if it weren't installed.
WITHOUT_TORCH = """
import sys
for name in ("torch", "numpy", "SimpleITK", "safetensors"):
    sys.modules[name] = None
"""


@pytest.fixture
def no_shipped_models(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "shipped_folder", lambda: tmp_path / "shipped")


def test_listing_and_verifying_needs_no_torch(root, make_bundle):
    folder = make_bundle().parent
    code = WITHOUT_TORCH + (
        "from midiffusion import cli\n"
        f"assert cli.main(['models', 'list', '--model-folder', {str(folder)!r}]) == 0\n"
        f"assert cli.main(['models', 'show', 'toy', '--model-folder', {str(folder)!r}]) == 0\n"
        f"assert cli.main(['models', 'verify', 'toy', '--model-folder', {str(folder)!r}]) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(root / "MIDiffusionTranslate")},
    )
    assert done.returncode == 0, done.stderr
    assert "toy" in done.stdout and "Toy target" in done.stdout


def test_every_shipped_model_is_sound(root):
    shipped = registry.available()
    assert {entry.id for entry in shipped} == {"t1", "t2", "pd", "flair", "ct"}
    folders = {
        p.parent for p in (root / "MIDiffusionTranslate/Resources/Models").glob("*/card.json")
    }
    assert {entry.folder for entry in shipped} == folders
    for entry in shipped:
        assert entry.problem is None and entry.card is not None
        assert entry.folder.name == entry.id
        registry.verify(entry)


def test_find_by_id_and_by_folder(no_shipped_models, make_bundle):
    bundle = make_bundle("models/some-folder")
    assert registry.find("toy", bundle.parent).folder == bundle
    assert registry.find("toy", bundle).folder == bundle
    assert registry.find(bundle).id == "toy"


def test_unknown_model_names_those_there_are(no_shipped_models, make_bundle):
    make_bundle("models/a", id="first")
    folder = make_bundle("models/b", id="second").parent
    with pytest.raises(UnknownModel, match="'third'.*first, second"):
        registry.find("third", folder)
    with pytest.raises(UnknownModel, match="first, second"):
        registry.find("n" * 300, folder)  # no name of a folder either
    with pytest.raises(UnknownModel, match="none"):
        registry.find("third", folder / "missing")


def test_a_model_of_the_given_folder_comes_before_the_shipped_one(
    tmp_path, monkeypatch, make_bundle
):
    shipped = make_bundle("shipped/toy")
    own = make_bundle("own/toy", title="Mine")
    monkeypatch.setattr(registry, "shipped_folder", lambda: shipped.parent)
    assert registry.find("toy").folder == shipped
    assert [entry.folder for entry in registry.available(own.parent)] == [own]


def test_a_broken_card_is_listed_with_its_problem(no_shipped_models, make_bundle):
    folder = make_bundle("models/broken", pixel_mm="wide").parent
    make_bundle("models/sound")
    broken, sound = registry.available(folder)
    assert (broken.id, broken.card) == ("broken", None)
    assert broken.problem is not None and "'pixel_mm'" in broken.problem
    assert sound.problem is None
    with pytest.raises(InvalidCard, match="'pixel_mm'"):
        registry.find("broken", folder)


def test_a_folder_without_a_card_is_no_model(tmp_path):
    with pytest.raises(InvalidCard, match="card.json does not exist"):
        registry.find(tmp_path)


def test_missing_weights_are_a_problem(no_shipped_models, make_bundle):
    bundle = make_bundle()
    (bundle / "weights.safetensors").unlink()
    entry = registry.find(bundle)
    assert entry.problem is not None and "weights.safetensors does not exist" in entry.problem
    with pytest.raises(CorruptModel, match="can't be read"):
        registry.verify(entry)


def test_verify_accepts_the_weights_of_the_card(make_bundle):
    registry.verify(registry.find(make_bundle()))


@pytest.mark.parametrize(
    ("weights", "reason"), [(b"wejghts", "SHA-256 differs"), (b"weight", "6 bytes, not the 7")]
)
def test_verify_catches_one_flipped_byte_and_a_cut_file(make_bundle, weights, reason):
    bundle = make_bundle()
    (bundle / "weights.safetensors").write_bytes(weights)
    with pytest.raises(CorruptModel, match=reason):
        registry.verify(registry.find(bundle))


def test_a_wheel_carries_the_bundles_where_the_registry_looks(root, tmp_path, make_bundle):
    source = tmp_path / "source"
    library = root / "MIDiffusionTranslate" / "midiffusion"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(library, source / "MIDiffusionTranslate/midiffusion", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source / name)
    make_bundle("source/MIDiffusionTranslate/Resources/Models/toy")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    code = WITHOUT_TORCH + (
        "from midiffusion.models import registry\n"
        "registry.verify(registry.find('toy'))\n"
        "print(registry.shipped_folder())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(installed)},
        check=True,
    )
    assert Path(done.stdout.strip()) == installed / "midiffusion" / "bundles"
    packed = {p for p in files(installed / "midiffusion") if p.parts[0] != "bundles"}
    assert packed == files(library)


def files(folder: Path) -> set[Path]:
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
