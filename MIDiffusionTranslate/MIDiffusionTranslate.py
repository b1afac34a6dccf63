"""The module as Slicer loads it: Module, Widget, Logic and Test.

The work is done elsewhere: MIDiffusionTranslateLib holds the panel's behaviour and the scene side,
midiffusion the method. Nothing imported here needs torch.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from midiffusion.errors import InvalidParameter, InvalidVolume, UnknownModel
from midiffusion.models import registry
from MIDiffusionTranslateLib.logic import TranslateLogic
from MIDiffusionTranslateLib.panel.panel import TranslatePanel
from MIDiffusionTranslateLib.panel.train_section import TrainSection
from MIDiffusionTranslateLib.settings import ComputerSettings, TranslateParameters
from MIDiffusionTranslateLib.setup.dialogs import chooseFolder, confirm
from MIDiffusionTranslateLib.setup.licences import Licences
from MIDiffusionTranslateLib.setup.packages import Dependencies
from MIDiffusionTranslateLib.setup.sample_data import (
    loadSample,
    registerSampleData,
    smallSample,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

POLL_MS = 40


class MIDiffusionTranslate(ScriptedLoadableModule):
    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("MIDiffusion Translate")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Image Synthesis")]
        self.parent.dependencies = []
        self.parent.contributors = ["MIDiffusion contributors"]
        self.parent.helpText = _(
            "Translates a head MR or CT into another contrast or modality. Results are synthetic: "
            'research use only, not for diagnosis. <a href="{url}">Documentation</a>.'
        ).format(url="https://github.com/MIDiffusion/SlicerMIDiffusion#readme")
        self.parent.acknowledgementText = _(
            "Method: mutual information guided diffusion for zero-shot cross-modality translation, "
            "IEEE Transactions on Medical Imaging 2024, doi 10.1109/TMI.2024.3382043 "
            "(arXiv 2301.13743)."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


class MIDiffusionTranslateWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: MIDiffusionTranslateLogic | None = None
        self.panel: TranslatePanel | None = None
        self.training: TrainSection | None = None
        self._parameterNode: TranslateParameters | None = None
        self._guiTag: int | None = None
        self._observedSource: Any = None
        self._sourceTag = 0

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MIDiffusionTranslate.ui"))
        self.layout.addWidget(uiWidget)
        comparison, batch = (
            slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui"))
            for name in ("Comparison", "Batch")
        )
        for section in (comparison, batch):  # above the spacer at the end
            uiWidget.layout().insertWidget(uiWidget.layout().count() - 1, section)
        comparison.setMRMLScene(slicer.mrmlScene)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = MIDiffusionTranslateLogic()
        self.panel = TranslatePanel(
            self.ui,
            self.logic,
            registry,
            ComputerSettings(qt.QSettings()),
            Dependencies(),
            chooseFolder=self.chooseFolder,
            show=showResult,
            loadSample=loadSample,
        )
        trainWidget = slicer.util.loadUI(self.resourcePath("UI/Train.ui"))
        uiWidget.layout().insertWidget(uiWidget.layout().count() - 1, trainWidget)
        self.training = TrainSection(
            slicer.util.childWidgetVariables(trainWidget),
            self.logic,
            self.panel.chooser,
            self.panel.settings,
            self.panel.packages,
            chooseFolder=self.chooseImages,
        )
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
            self.addObserver(scene, event, self.onSceneContents)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """The module is reloaded or the application ends: nothing may go on running."""
        if self.panel is not None:
            self.panel.endAll()
        if self.logic is not None:
            self.logic.abandonAll()
        self.setParameterNode(None)
        self.removeObservers()

    def onReload(self) -> None:
        """Reload with the library and the panel: their modules are imported anew."""
        for name in list(sys.modules):
            if name.partition(".")[0] in ("midiffusion", "MIDiffusionTranslateLib"):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self) -> None:
        if self.panel is not None:
            self.panel.chooser.list()
        if self.training is not None:
            self.training.refresh()
        self.initializeParameterNode()

    def exit(self) -> None:
        """Another module is shown. A translation goes on; the inputs are let go of."""
        self.setParameterNode(None)

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        if self.panel is not None:
            self.panel.endAll(_("Cancelled, because the scene was closed."))
        self.setParameterNode(None)

    def onSceneEndClose(self, caller: Any, event: Any) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller: Any, event: Any) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneContents(self, caller: Any, event: Any) -> None:
        if self.panel is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.panel.refresh()

    def initializeParameterNode(self) -> None:
        """Bind the panel to the scene's parameter node; preselect an image."""
        assert self.logic is not None
        self.setParameterNode(self.logic.getParameterNode())
        if self._parameterNode is not None and self._parameterNode.sourceVolume is None:
            self._parameterNode.sourceVolume = likelySource()

    def setParameterNode(self, parameters: TranslateParameters | None) -> None:
        modified = vtk.vtkCommand.ModifiedEvent
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, modified, self.onParametersModified)
        self._parameterNode = parameters
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters, modified, self.onParametersModified)
        if self.panel is not None:
            self.panel.setParameters(parameters)
        self._observeSource()

    def onParametersModified(self, caller: Any = None, event: Any = None) -> None:
        self._observeSource()
        if self.panel is not None:
            self.panel.refresh()

    def onSourceModified(self, caller: Any = None, event: Any = None) -> None:
        if self.panel is not None:
            self.panel.refresh()

    def _observeSource(self) -> None:
        """Follow the source's image: it may be loaded after the volume was chosen."""
        source = None if self._parameterNode is None else self._parameterNode.sourceVolume
        if source is self._observedSource:
            return
        event = slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent
        # Not by VTKObservationMixin: it keeps what it has observed, and with it the image.
        if self._observedSource is not None:
            self._observedSource.RemoveObserver(self._sourceTag)
        self._observedSource = source
        if source is not None:
            self._sourceTag = source.AddObserver(event, self.onSourceModified)

    def chooseFolder(self, start: str) -> str:
        return chooseFolder(_("Folder of models or volumes"), start)

    def chooseImages(self, start: str) -> str:
        return chooseFolder(_("Folder of images to train on"), start)


class MIDiffusionTranslateLogic(ScriptedLoadableModuleLogic, TranslateLogic):
    """translate() and start() as TranslateLogic documents them, polled by Qt's event loop."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        licences = Licences(ComputerSettings(qt.QSettings()), confirm)
        TranslateLogic.__init__(self, licenceAccepted=licences.accepted)
        # One for the logic, not one for each job: Qt's connection would keep a job alive.
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self.pollJobs)

    def getParameterNode(self) -> TranslateParameters:
        return TranslateParameters(super().getParameterNode())

    def watch(self, job: Any) -> None:
        self._timer.start()

    def pollJobs(self) -> None:
        for job in list(self.jobs):
            job.poll()
        if not self.jobs:
            self._timer.stop()

    def abandonAll(self) -> None:
        super().abandonAll()
        self._timer.stop()


class MIDiffusionTranslateTest(ScriptedLoadableModuleTest):
    """End to end on a small volume, on the processor, in seconds; no dialog, no network.

    Without torch or safetensors the translation is left out, and that is said and logged.
    """

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        for test in (self.test_refusals, self.test_panel, self.test_translate):
            self.setUp()
            test()

    def test_refusals(self) -> None:
        self.delayDisplay("Refusing what can't be translated")
        logic = MIDiffusionTranslateLogic()
        image = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Constant")
        slicer.util.updateVolumeFromArray(image, np.zeros((3, 4, 5), np.float32))
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
        before = slicer.mrmlScene.GetNumberOfNodes()
        for source, arguments, error in (
            (image, {"steps": 0}, InvalidParameter),
            (image, {"model": "no-such-model"}, UnknownModel),
            (image, {}, InvalidVolume),
            (labels, {}, InvalidVolume),
            (None, {}, InvalidVolume),
        ):
            with self.assertRaises(error):
                logic.start(source, **arguments)
        self.assertEqual(logic.jobs, [])
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), before)

    def test_panel(self) -> None:
        self.delayDisplay("Opening the panel")
        widget = slicer.modules.midiffusiontranslate.widgetRepresentation().self()
        widget.enter()
        missing = Dependencies().missing()
        self.assertEqual(widget.ui.installButton.isHidden(), not missing)
        self.assertFalse(widget.ui.translateButton.enabled)  # the scene holds no volume
        if missing:
            self.assertEqual(widget.ui.hintLabel.text, Dependencies().offer())
        if not widget.parent.isEntered:
            widget.exit()

    def test_translate(self) -> None:
        self.delayDisplay("Translating a small volume")
        missing = Dependencies().missing()
        if missing:
            skipped = "SKIPPED: nothing was translated, for want of " + " and ".join(missing)
            logging.warning(skipped)
            self.delayDisplay(skipped)
            return
        source = smallSample()
        logic = MIDiffusionTranslateLogic()
        result = logic.translate(source, views=1, device="cpu")
        before, after = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
        source.GetIJKToRASMatrix(before)
        result.GetIJKToRASMatrix(after)
        for row in range(4):
            for column in range(4):
                self.assertEqual(before.GetElement(row, column), after.GetElement(row, column))
        values = slicer.util.arrayFromVolume(result)
        self.assertEqual(values.shape, slicer.util.arrayFromVolume(source).shape)
        self.assertTrue(np.isfinite(values).all())
        self.assertGreater(float(values.std()), 0.0)
        self.assertEqual(result.GetAttribute("MIDiffusion.synthetic"), "1")
        self.delayDisplay("Test passed")


def showResult(source: Any, result: Any) -> None:
    """The result over its source in the slice views, which stay where they are."""
    slicer.util.setSliceViewerLayers(background=source, foreground=result, foregroundOpacity=1.0)


def likelySource() -> Any:
    """The image in the slice views, else the first of the scene; no label map, nothing synthetic.

    None if there is none.
    """
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    shown = [slicer.mrmlScene.GetNodeByID(view.GetBackgroundVolumeID() or "") for view in views]
    for node in (*shown, *slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")):
        if (
            node is not None
            and node.GetClassName() == "vtkMRMLScalarVolumeNode"
            and not node.GetHideFromEditors()
            and node.GetAttribute("MIDiffusion.synthetic") is None
        ):
            return node
    return None
