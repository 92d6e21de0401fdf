"""Which detector `agebench export-onnx --detector` means."""

from __future__ import annotations

from agebench.detectors.common import check_input_size
from agebench.detectors.yoloface_500k import SIZES, STEMS, darknet_files
from agebench.errors import UsageError, suggestion
from agebench.export.detector_file import DarknetFiles
from agebench.export.metadata import sources_of
from agebench.references import parse_reference

NAME = "yoloface-500k"


def darknet_of(text: str) -> DarknetFiles:
    """Return the files of ``yoloface-500k[:FILE.weights] [version=v1] [size=WIDTHxHEIGHT]``.

    Raises:
        UsageError: another detector, or an option that does not decide what is exported.
        WeightsError: a file can't be had.
    """
    reference = parse_reference(text)
    if reference.name != NAME:
        raise UsageError(f"detector {reference.name!r} can't be exported: {NAME} can")
    for option in reference.options:
        if option not in ("version", "size"):
            raise UsageError(
                f"option {option!r} is not part of an exported {NAME}: "
                f"{suggestion(option, ('version', 'size'))}"
            )
    version = reference.options.get("version", "v2")
    if version not in STEMS:
        raise UsageError(f"unknown version {version!r} of {NAME}: {suggestion(version, STEMS)}")
    size_hw = check_input_size(NAME, reference.options.get("size", SIZES[version]))
    layout, file, cfg = darknet_files(version, reference.path)
    return DarknetFiles(
        version,
        cfg,
        file.path,
        sources_of((file.info, layout.info)),
        file.info.licence,
        size_hw,
    )
