"""The part of Caffe's protobuf schema that weight files need, built without protoc or Caffe.

Field numbers are those of caffe.proto (BVLC Caffe 1.0); `raw_data_type` and `raw_data` are the
half-precision extension of NVIDIA's Caffe that OpenCV's dnn module also reads and writes.  Fields
not declared here (such as a layer's settings) are skipped.

Two kinds of field are declared as `bytes`, which is the same on the wire:

- packed numbers, so that millions of weights are passed to numpy at once instead of one by one;
- strings, since proto2 does not guarantee UTF-8 and the protobuf implementations differ in handling
  invalid ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_ONE, _MANY = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED
_PACKAGE = "agebench.caffe"

V1_LAYER_TYPES: Mapping[int, str] = MappingProxyType(
    {
        1: "Accuracy",
        2: "BNLL",
        3: "Concat",
        4: "Convolution",
        5: "Data",
        6: "Dropout",
        7: "EuclideanLoss",
        8: "Flatten",
        9: "HDF5Data",
        10: "HDF5Output",
        11: "Im2col",
        12: "ImageData",
        13: "InfogainLoss",
        14: "InnerProduct",
        15: "LRN",
        16: "MultinomialLogisticLoss",
        17: "Pooling",
        18: "ReLU",
        19: "Sigmoid",
        20: "Softmax",
        21: "SoftmaxWithLoss",
        22: "Split",
        23: "TanH",
        24: "WindowData",
        25: "Eltwise",
        26: "Power",
        27: "SigmoidCrossEntropyLoss",
        28: "HingeLoss",
        29: "MemoryData",
        30: "ArgMax",
        31: "Threshold",
        32: "DummyData",
        33: "Slice",
        34: "MVN",
        35: "AbsVal",
        36: "Silence",
        37: "ContrastiveLoss",
        38: "Exp",
        39: "Deconvolution",
    }
)
"""The old encoding's layer types by number, with their names in the new encoding."""

RAW_DOUBLE, RAW_FLOAT, RAW_FLOAT16 = 0, 1, 2
"""Values of `BlobProto.raw_data_type`."""

# message -> (field, number, label, type); a type that is a string names another message.
_MESSAGES: Mapping[str, tuple[tuple[str, int, Any, Any], ...]] = {
    "BlobShape": (("dim", 1, _MANY, _Field.TYPE_INT64),),
    "BlobProto": (
        ("num", 1, _ONE, _Field.TYPE_INT32),
        ("channels", 2, _ONE, _Field.TYPE_INT32),
        ("height", 3, _ONE, _Field.TYPE_INT32),
        ("width", 4, _ONE, _Field.TYPE_INT32),
        ("data", 5, _MANY, _Field.TYPE_BYTES),  # packed little-endian float32
        ("shape", 7, _ONE, "BlobShape"),
        ("double_data", 8, _MANY, _Field.TYPE_BYTES),  # packed little-endian float64
        ("raw_data_type", 10, _ONE, _Field.TYPE_INT32),
        ("raw_data", 12, _ONE, _Field.TYPE_BYTES),
    ),
    "V1LayerParameter": (
        ("layer", 1, _ONE, _Field.TYPE_BYTES),  # the older V0 encoding, not parsed
        ("bottom", 2, _MANY, _Field.TYPE_BYTES),
        ("top", 3, _MANY, _Field.TYPE_BYTES),
        ("name", 4, _ONE, _Field.TYPE_BYTES),
        ("type", 5, _ONE, _Field.TYPE_ENUM),
        ("blobs", 6, _MANY, "BlobProto"),
    ),
    "LayerParameter": (
        ("name", 1, _ONE, _Field.TYPE_BYTES),
        ("type", 2, _ONE, _Field.TYPE_BYTES),
        ("bottom", 3, _MANY, _Field.TYPE_BYTES),
        ("top", 4, _MANY, _Field.TYPE_BYTES),
        ("blobs", 7, _MANY, "BlobProto"),
    ),
    "NetParameter": (
        ("name", 1, _ONE, _Field.TYPE_BYTES),
        ("layers", 2, _MANY, "V1LayerParameter"),
        ("layer", 100, _MANY, "LayerParameter"),
    ),
}


def _add_layer_type_enum(message: descriptor_pb2.DescriptorProto) -> None:
    enum = message.enum_type.add(name="LayerType")
    enum.value.add(name="NONE", number=0)
    for number, name in V1_LAYER_TYPES.items():
        enum.value.add(name=f"TYPE_{name.upper()}", number=number)


def _file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="agebench/caffe.proto", package=_PACKAGE, syntax="proto2"
    )
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, number, label, kind in fields:
            field = message.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                field.type = _Field.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
                continue
            field.type = kind
            if kind == _Field.TYPE_ENUM:
                field.type_name = f".{_PACKAGE}.{message_name}.LayerType"
                _add_layer_type_enum(message)
            elif kind == _Field.TYPE_INT64:
                field.options.packed = True
    return file


# A separate pool, so that there is no conflict with Caffe's own generated classes.
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file_descriptor())


def _message_class(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


BlobProto: Any = _message_class("BlobProto")
"""One array of weights; also the whole of a mean.binaryproto."""

NetParameter: Any = _message_class("NetParameter")
"""A whole .caffemodel: `layers` in the encoding of the published age_net, whose types are numbers,
`layer` in that since Caffe 1.0, whose types are texts."""
