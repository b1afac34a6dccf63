"""The base of every section with a button that runs a task and then cancels it."""

from __future__ import annotations

import logging
from typing import Any

from midiffusion.errors import MIDiffusionError
from slicer.i18n import tr as _


class TaskSection:
    """One task at a time; the button runs it when idle and cancels it while it runs.

    Subclasses implement `begin` and `obstacle`, call `ended` when the job reports its end, and may
    extend `refresh`.

    Args:
        button: the widget of the one button.
        status: label for results and errors.
        hint: label beside the button that says why it is disabled; None if there is none.
    """

    cancelText = _("Cancel")
    cancelTip = _("Ends the task. Nothing is kept.")
    failure = _("It could not start ({error}). The log has the details.")

    def __init__(self, button: Any, status: Any, hint: Any = None) -> None:
        self._button, self._status, self._hint = button, status, hint
        self.job: Any = None  # state: running, cancelling, ...; cancel(), abandon(), finished
        button.connect("clicked(bool)", lambda _checked: self.onClick())

    # for subclasses

    def runText(self) -> str:
        """The button's text when idle."""
        raise NotImplementedError

    def runTip(self) -> str:
        """The button's tool tip when it can be clicked."""
        raise NotImplementedError

    def obstacle(self) -> str:
        """Why the task can't start, as a sentence that says what to do; empty if it can."""
        return ""

    def note(self) -> str:
        """What the hint says when nothing hinders the task."""
        return ""

    def begin(self) -> Any:
        """Starts the task and returns its job; None if the user declined. Raises
        MIDiffusionError."""
        raise NotImplementedError

    def started(self) -> None:
        """Called when the job runs."""

    # what the button does

    def onClick(self) -> None:
        if self.job is not None:
            self.job.cancel()
            self.refreshButton()
        elif self.obstacle():
            self.refresh()
        else:
            self._start()

    def _start(self) -> None:
        self.say("")
        try:
            job = self.begin()
        except MIDiffusionError as error:
            self.say(str(error))
        except Exception as error:
            logging.exception("MIDiffusion: a task could not start")
            self.say(self.failure.format(error=error))
        else:
            if job is not None and not job.finished:
                self.job = job
                self.started()
        self.refresh()

    def abandon(self) -> None:
        """Ends the task at once: the scene or the module goes away."""
        if self.job is not None:
            self.job.abandon()  # which reports its end

    # what is shown

    def refresh(self) -> None:
        """Brings the widgets in line with the state."""
        self.refreshButton()

    def refreshButton(self) -> None:
        button, hint = self._button, ""
        if self.job is not None:
            cancelling = self.job.state == "cancelling"
            button.text = _("Cancelling...") if cancelling else self.cancelText
            button.enabled = not cancelling
            button.toolTip = self.cancelTip
        else:
            obstacle = self.obstacle()
            button.text = self.runText()
            button.enabled = not obstacle
            button.toolTip = obstacle or self.runTip()
            hint = obstacle or self.note()
        if self._hint is not None:
            self._hint.text = hint
            self._hint.visible = bool(hint)

    def say(self, sentence: str) -> None:
        """Shows how the task ended, or what to do."""
        self._status.text = sentence
        self._status.visible = bool(sentence)
