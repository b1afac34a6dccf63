"""`midiffusion models`: list, show and verify."""

from __future__ import annotations

import json

import pytest
from library.conftest import assert_refused
from midiffusion import cli


def test_models_list_show_verify_as_json(run, make_bundle):
    make_bundle("models/broken", pixel_mm=0)
    code, text, _ = run("models", "list", "--json")
    listed = {entry["id"]: entry for entry in json.loads(text)}
    assert code == 0
    assert listed["toy"]["card"]["title"] == "Toy target" and listed["toy"]["problem"] is None
    assert listed["broken"]["card"] is None and "'pixel_mm'" in listed["broken"]["problem"]
    assert json.loads(run("models", "show", "toy", "--json")[1])["card"]["id"] == "toy"
    assert json.loads(run("models", "verify", "toy", "--json")[1])["ok"] is True


def test_models_list_says_why_one_cannot_be_used(run, make_bundle):
    make_bundle("models/broken", pixel_mm=0)
    code, text, _ = run("models", "list")
    assert code == 0
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert "Toy target" in lines["toy"]
    assert "cannot be used" in lines["broken"] and "'pixel_mm'" in lines["broken"]


def test_verify_fails_on_a_flipped_byte(run, tmp_path):
    (tmp_path / "models/toy/weights.safetensors").write_bytes(b"wejghts")
    assert_refused(run("models", "verify", "toy"), "SHA-256 differs")


@pytest.mark.parametrize(
    "words",
    [
        ["models", "list"],
        ["models", "show", "flair"],
        ["models", "verify", "flair"],
        ["translate", "a.nrrd", "--to", "flair", "-o", "b.nrrd"],
    ],
)
def test_a_folder_of_models_must_be_there(words, tmp_path, capsys):
    status = cli.main([*words, "--model-folder", str(tmp_path / "modles")])
    assert_refused((status, *capsys.readouterr()), "there is no folder")
