"""A mask and sunglasses drawn over a face, deterministically.

Used by view_gain.py.
"""

from __future__ import annotations

import numpy as np

from agebench.types import FaceFrame, Floats, Image
from agebench.vision.frames import TEMPLATE_5, frame_points, frame_to_image
from agebench.vision.opencv import cv2

MASK_BGR = (222, 205, 165)
GLASSES_BGR = (24, 22, 22)

_HALF = [(0.0, 0.0), (0.13, 0.07), (0.34, 0.05), (0.34, 0.25), (0.24, 0.42), (0.11, 0.5)]
MASK: Floats = np.array(_HALF + [(-x, y) for x, y in reversed(_HALF[1:])])
"""Outline from nose bridge to chin, in frame heights relative to the frame's centre."""

LENS = (0.14, 0.095)
"""Half the width and half the height of a lens, in frame heights; the brows stay visible."""


def _shift(frame: FaceFrame, points: list[int]) -> Floats:
    """Return the mean offset of some of the five points from their template positions, pixels."""
    places = np.asarray(frame_to_image(frame, TEMPLATE_5))
    shift: Floats = (frame_points(frame) - places)[points].mean(axis=0)
    return shift


def _fill(image_bgr: Image, outline_xy: Floats, colour: tuple[int, int, int]) -> None:
    corners = np.rint(outline_xy * 16).astype(np.int32)  # in sixteenths of a pixel
    cv2.fillPoly(image_bgr, [corners], colour, lineType=cv2.LINE_AA, shift=4)


def with_mask(image_bgr: Image, frame: FaceFrame) -> Image:
    """Return the picture with a mask over nose, mouth and chin, positioned by nose and mouth."""
    drawn = image_bgr.copy()
    outline = np.asarray(frame_to_image(frame, MASK)) + _shift(frame, [2, 3, 4])
    _fill(drawn, outline, MASK_BGR)
    return drawn


def with_sunglasses(image_bgr: Image, frame: FaceFrame) -> Image:
    """Return the picture with dark lenses over the eyes and a bridge between them."""
    drawn = image_bgr.copy()
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    oval = np.column_stack([np.cos(turn), np.sin(turn)]) * LENS
    for eye in (0, 1):
        lens = frame_to_image(frame, TEMPLATE_5[eye] + (0, 0.01) + oval)
        _fill(drawn, np.asarray(lens) + _shift(frame, [eye]), GLASSES_BGR)
    bar = frame_to_image(frame, np.array([(-0.1, -0.13), (0.1, -0.13), (0.1, -0.1), (-0.1, -0.1)]))
    _fill(drawn, np.asarray(bar) + _shift(frame, [0, 1]), GLASSES_BGR)
    return drawn
