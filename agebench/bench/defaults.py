"""What is measured, on what and how faces are found, where the user says nothing of it."""

from __future__ import annotations

from agebench.protocols import DatasetSpec, FaceDetector

ESTIMATORS = ("multicrop-resnet", "multicrop-resnet-small", "caffe-age-net-utkface", "constant")
"""What `agebench compare` measures where no estimator is named."""

DATASET = "sample"
"""What it measures them on where no data set is named: composites that come with the package."""

DEMO_FOLDER = "agebench-demo"
"""Where the result goes, beside the terminal, where the user says nothing at all."""

DETECTOR = "yolov8-face"
CHIP_DETECTOR = "aligned"


def choose_detector(
    detector: str | FaceDetector | None, dataset: DatasetSpec | None
) -> tuple[str | FaceDetector, str]:
    """Return what finds the faces, and why it was taken; "" where it was named.

    In aligned chips the face lies where it always does, and a detector could only miss it.

    >>> from agebench.protocols import DatasetSpec
    >>> choose_detector(None, DatasetSpec("mine", "unknown", aligned=True))
    ('aligned', 'the pictures of mine are aligned chips, and no detector was named')
    >>> choose_detector("haar", DatasetSpec("mine", "unknown", aligned=True))
    ('haar', '')
    """
    if detector is not None:
        return detector, ""
    if dataset is not None and dataset.aligned:
        return (
            CHIP_DETECTOR,
            f"the pictures of {dataset.name} are aligned chips, and no detector was named",
        )
    return DETECTOR, "the default, since no detector was named"
