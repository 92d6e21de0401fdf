"""Which detector `agebench export-onnx --export-detector` means."""

from __future__ import annotations

from agebench.conversion.darknet_onnx import NetworkVersion
from agebench.detectors.common import check_input_size
from agebench.detectors.yoloface_500k import OWN, SIZES, STEMS, darknet_files, own_size
from agebench.errors import UsageError, suggestion
from agebench.export.detector_file import DarknetFiles
from agebench.references import parse_reference
from agebench.runtimes.onnx_metadata import sources_of

NAME = "yoloface-500k"


def darknet_of(text: str) -> DarknetFiles:
    """Return the files of ``yoloface-500k[:FILE.weights] [version=v1] [size=WIDTHxHEIGHT]``.

    Raises:
        UsageError: another detector, or an option that does not decide what is exported.
        WeightsError: a file is not available.
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
    asked = reference.options.get("version", "v2")
    if asked not in STEMS:
        raise UsageError(f"unknown version {asked!r} of {NAME}: {suggestion(asked, STEMS)}")
    version: NetworkVersion = "v1" if asked == "v1" else "v2"
    path, size = reference.path, reference.options.get("size", SIZES[version])
    # A wrong size is said before a file is looked for.
    size_hw = check_input_size(NAME, size, multiple=32 if path is None else 8)
    layout, file, cfg = darknet_files(version, path)
    if path is not None and not file.info.published:
        version = OWN
        if "size" not in reference.options:
            size_hw = own_size(layout.path, cfg)
    return DarknetFiles(
        version,
        cfg,
        file.path,
        sources_of((file.info, layout.info)),
        file.info.licence,
        size_hw,
    )
