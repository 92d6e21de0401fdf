"""Inputs of the published age network, with one habit of tutorials changed at a time.

Used by tutorial_mistakes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from agebench.estimators.caffe_age_net import FULL, WINDOW, centre_window, ten_windows
from agebench.protocols import DetectorSpec
from agebench.runtimes.age_net_layout import CHANNEL_MEAN
from agebench.types import CropSpec, Face, FaceFrame, Image, ViewSpec
from agebench.vision.crops import cut_crops
from agebench.vision.faces import chosen_face
from agebench.vision.frames import canonical_frame
from agebench.vision.opencv import cv2

BASE = "yolov8-face@onnxruntime"
TUTORIAL = "opencv-ssd pad=0"
DETECTORS = (BASE, TUTORIAL, "opencv-ssd", "yunet", "haar")

Blob = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """One picture, with one face chosen for each detector.

    Attributes:
        image_bgr: the picture.
        faces: the chosen face by detector; None if it found none.
        specs: the detectors' specifications, by detector.
    """

    image_bgr: Image
    faces: Mapping[str, Face | None]
    specs: Mapping[str, DetectorSpec]

    def frame(self, detector: str) -> FaceFrame | None:
        """Return the canonical frame of a detector's face."""
        face = self.faces[detector]
        return None if face is None else canonical_frame(face, self.specs[detector])

    def crop(self, view: ViewSpec, detector: str = BASE) -> Image | None:
        """Return one crop (1, height, width, 3), or None if there is none."""
        frame = self.frame(detector)
        if frame is None:
            return None
        crops = cut_crops(self.image_bgr, [frame], CropSpec({"face": view}))
        return crops.views["face"] if crops.present["face"][0] else None


@dataclass(frozen=True)
class Condition:
    """One way to make the network's input from a picture.

    Attributes:
        make: returns the input (windows, 3, 227, 227) for a scene; None if it has no face.
        caffe: run the published Caffe file under cv2.dnn instead of its ONNX version.
    """

    make: Callable[[Scene], Blob | None]
    caffe: bool = False


def the_face(faces: Sequence[Face], detector: str) -> Face | None:
    """Return the face with the best score (tutorials' detector) or the largest box (others)."""
    if detector == TUTORIAL:
        return max(faces, key=lambda face: face.score, default=None)
    return chosen_face(faces)


def called(detector: str) -> str:
    """Return a detector's name in the table."""
    return "the tutorials' opencv-ssd" if detector == TUTORIAL else detector.partition("@")[0]


def shrunk(scene: Scene, height_px: float) -> Scene:
    """Return the scene reduced so that the face is at most `height_px` tall."""
    frame = scene.frame(BASE)
    face = scene.faces[BASE]
    if frame is None or face is None or frame.height <= height_px:
        return scene
    scale = height_px / frame.height
    image = cv2.resize(scene.image_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    points = tuple(((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5) for x, y in face.landmarks_xy)
    left, top, right, bottom = ((edge + 0.5) * scale - 0.5 for edge in face.box_xyxy)
    small = Face((left, top, right, bottom), face.score, points, face.landmark_scheme)
    return Scene(np.asarray(image, np.uint8), {BASE: small}, scene.specs)


def view(margin_px: float = 20.0, margin: float = 0.0, side: int = WINDOW) -> ViewSpec:
    """Return a view of the canonical frame, clipped to the picture."""
    size = (side, side)
    return ViewSpec("face", size, margin=margin, margin_px=margin_px, border="clip")


def box_view(margin_px: float = 20.0) -> ViewSpec:
    """Return a view of the detector's own box, cropped and squashed to a square as in tutorials."""
    return ViewSpec("box", (WINDOW, WINDOW), margin_px=margin_px, border="slice")


def to_blob(
    pixels: Image | None,
    mean: Sequence[float] = CHANNEL_MEAN,
    *,
    rgb: bool = False,
    scale: float = 1,
) -> Blob | None:
    """Return the blob that cv2.dnn.blobFromImage makes: pixels minus the mean, times the scale.

    Args:
        pixels: uint8 (n, height, width, 3), B, G, R; None gives None.
        mean: subtracted from the first, second and third channel of the network's input.
        rgb: like `swapRB`, swaps the channels but not the mean.
        scale: factor applied after subtracting the mean.
    """
    if pixels is None:
        return None
    turned = pixels[..., ::-1] if rgb else pixels
    plain = (turned.astype(np.float32) - np.array(mean, np.float32)) * np.float32(scale)
    return np.ascontiguousarray(plain.transpose(0, 3, 1, 2))


def conditions(mean_image: Blob) -> dict[str, Condition]:
    """Return the conditions by name; ten crops, the slowest, come last.

    Args:
        mean_image: mean image published with the network, float32 (3, 256, 256).
    """
    resized = cv2.resize(mean_image.transpose(1, 2, 0), (WINDOW, WINDOW))
    small_mean = np.asarray(resized, np.float32).transpose(2, 0, 1)

    def framed(scene: Scene, detector: str = BASE, shown: ViewSpec | None = None) -> Blob | None:
        return to_blob(scene.crop(shown or view(), detector))

    def less_small_mean(scene: Scene) -> Blob | None:
        plain = to_blob(scene.crop(view()), (0, 0, 0))
        return None if plain is None else plain - small_mean

    def wide(scene: Scene, *, ten: bool, image: bool) -> Blob | None:
        whole = to_blob(scene.crop(view(side=FULL)), (0, 0, 0) if image else CHANNEL_MEAN)
        if whole is None:
            return None
        whole = whole - mean_image if image else whole
        return ten_windows(whole) if ten else centre_window(whole)

    makers: dict[str, Callable[[Scene], Blob | None]] = {
        "base": framed,
        "no mean": lambda scene: to_blob(scene.crop(view()), (0, 0, 0)),
        "RGB": lambda scene: to_blob(scene.crop(view()), rgb=True),
        "scaled by 1/255": lambda scene: to_blob(scene.crop(view()), scale=1 / 255),
        "mean image": less_small_mean,
        "centre of 256": partial(wide, ten=False, image=False),
        "centre of 256, mean image": partial(wide, ten=False, image=True),
        "face 48 px tall": lambda scene: framed(shrunk(scene, 48), shown=view(margin_px=5)),
        "face 24 px tall": lambda scene: framed(shrunk(scene, 24), shown=view(margin_px=2.5)),
        "margin 0": partial(framed, shown=view(0)),
        "margin 40 px": partial(framed, shown=view(40)),
        "margin 20 %": partial(framed, shown=view(0, 0.2)),
        "margin 40 %": partial(framed, shown=view(0, 0.4)),
        "margin 70 %": partial(framed, shown=view(0, 0.7)),
        "box of yolov8-face, margin 0": partial(framed, shown=box_view(0)),
    }
    for detector in DETECTORS:
        name = called(detector)
        makers[f"box of {name}"] = partial(framed, detector=detector, shown=box_view())
        if detector not in {BASE, TUTORIAL}:
            makers[f"frame of {name}"] = partial(framed, detector=detector)
    makers["ten crops"] = partial(wide, ten=True, image=False)
    makers["ten crops, mean image"] = partial(wide, ten=True, image=True)
    found = {name: Condition(make) for name, make in makers.items()}
    return {"the Caffe file by cv2.dnn": Condition(framed, caffe=True), **found}
