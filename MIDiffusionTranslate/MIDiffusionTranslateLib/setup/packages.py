"""The Python packages a translation needs: are they there, and installing them with consent.

Nothing here runs at start-up or when the panel opens, other than looking whether the packages
exist; that look imports none of them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import slicer
from midiffusion.errors import DependencyMissing
from slicer.i18n import tr as _

_TORCH_MINIMUM = (2, 1)
TORCH = ">={}.{}".format(*_TORCH_MINIMUM)
REQUIREMENTS = Path(__file__).parents[2] / "Resources" / "requirements.txt"
PACKAGES = ("torch", "safetensors")


class TorchInstaller(Protocol):
    """The part of PyTorchUtils.PyTorchUtilsLogic that is used."""

    def installTorch(
        self, askConfirmation: bool = False, *, torchVersionRequirement: str | None = None
    ) -> object: ...


def _found(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _torchVersion() -> str | None:
    """Of the torch that is installed, which is not imported; None where that isn't known."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def _torchInstaller() -> TorchInstaller:
    """Raises DependencyMissing where the PyTorch extension is not installed."""
    try:
        import PyTorchUtils  # type: ignore[import-not-found]
    except ImportError as error:
        raise DependencyMissing(
            _(
                "PyTorch is installed through Slicer's PyTorch extension, which is missing: open "
                "the Extensions Manager, install PyTorch, restart Slicer and try again."
            )
        ) from error
    installer: TorchInstaller = PyTorchUtils.PyTorchUtilsLogic()
    return installer


def _ensure(requirements: Path) -> None:
    """Installs what the file names, after a question to the user, unless the answer is no."""
    try:
        import slicer.packaging as packaging
    except ImportError:  # before Slicer 5.11
        lines = [line.strip() for line in requirements.read_text("utf-8").splitlines()]
        names = " ".join(line for line in lines if line and not line.startswith("#"))
        question = _("MIDiffusion needs these Python packages: {names}. Install them now?")
        if slicer.util.confirmOkCancelDisplay(question.format(names=names)):
            slicer.util.pip_install(names)
    else:
        try:
            packaging.pip_ensure(packaging.load_requirements(requirements), requester="MIDiffusion")
        except RuntimeError as error:  # pip_ensure has no other way to say no
            if "declined" not in str(error).lower():
                raise


class Dependencies:
    """What is missing, and the way to install it. Every collaborator can be replaced.

    Args:
        found: whether a package can be imported, by name.
        torchVersion: the version of the torch installed, or None.
        testing: whether the application runs in testing mode, where nothing is ever installed.
        torchInstaller: gives the installer of torch; raises DependencyMissing.
        ensure: installs a requirements file with the user's consent.
    """

    def __init__(
        self,
        found: Callable[[str], bool] = _found,
        torchVersion: Callable[[], str | None] = _torchVersion,
        testing: Callable[[], bool] = lambda: bool(slicer.app.testingEnabled()),
        torchInstaller: Callable[[], TorchInstaller] = _torchInstaller,
        ensure: Callable[[Path], None] = _ensure,
    ) -> None:
        self._found, self._torchVersion, self._testing = found, torchVersion, testing
        self._torchInstaller, self._ensure = torchInstaller, ensure

    def missing(self) -> list[str]:
        """Names of the packages that are not installed, or too old."""
        return [name for name in PACKAGES if not self._found(name) or self._tooOld(name)]

    def _tooOld(self, name: str) -> str:
        """The version of the package if it is too old, else nothing."""
        version = self._torchVersion() if name == "torch" else None
        numbers = re.match(r"(\d+)\.(\d+)", version or "")
        if version is None or numbers is None:
            return ""
        return version if tuple(map(int, numbers.groups())) < _TORCH_MINIMUM else ""

    def offer(self) -> str:
        """What will be installed, and when; empty if nothing is missing."""
        missing = self.missing()
        if not missing:
            return ""
        size = _("PyTorch (0.2 to 3 GB to download, depending on the graphics card)")
        if self._found("torch"):
            size = _(
                "PyTorch {minimum} or later (version {version} is too old; 0.2 to 3 GB to "
                "download, depending on the graphics card)"
            ).format(minimum=TORCH.lstrip(">="), version=self._tooOld("torch"))
        names = [size if name == "torch" else name for name in missing]
        return _(
            "Not installed yet: {names}. Nothing is installed by itself: click Install and agree. "
            "Volumes never leave this computer."
        ).format(names=_(" and ").join(names))

    def install(self) -> None:
        """Installs what is missing, asking first. Raises DependencyMissing if it still is."""
        if not self.missing():
            return
        if self._testing():
            raise DependencyMissing(_("Nothing is installed in testing mode."))
        try:
            if "torch" in self.missing():
                self._torchInstaller().installTorch(True, torchVersionRequirement=TORCH)
                importlib.invalidate_caches()
            if self.missing() == ["safetensors"]:
                self._ensure(REQUIREMENTS)
                importlib.invalidate_caches()
        except DependencyMissing:
            raise
        except Exception as error:
            logging.exception("MIDiffusion: installation failed")
            raise DependencyMissing(
                _(
                    "The installation did not succeed ({error}). Check the network and the proxy, "
                    "or install PyTorch from the PyTorch Utils module, and try again."
                ).format(error=error)
            ) from error
        if self.missing():
            raise DependencyMissing(
                _("Not installed: {names}. Click Install when you want it.").format(
                    names=", ".join(self.missing())
                )
            )
