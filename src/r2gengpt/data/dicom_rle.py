"""DICOM's run-length encoding to bytes, never more of them than the picture has. No other compression.

Our own, as the decoders at hand either stop with a trace on damaged runs or unpack them without a limit.
"""

import struct

import numpy as np
import numpy.typing as npt

from r2gengpt.data.containers import ContainerError


def decode_rle(stream: bytes, shape: tuple[int, int], samples: int, width: int) -> npt.NDArray[np.integer]:
    """A frame's samples. Source: PS3.5, annex G.

    Args:
        stream: the compressed frame.
        shape: rows and columns.
        samples: of a pixel, 1 or 3.
        width: bytes of a sample, 1 or 2.

    Returns:
        (rows, columns), or (rows, columns, 3); uint8 or uint16.

    Raises:
        ContainerError: the frame is damaged.
    """
    if len(stream) < 64:
        raise ContainerError("its RLE frame is cut off in its header")
    count, *offsets = struct.unpack_from("<16L", stream)
    if count != samples * width:
        raise ContainerError(f"its RLE frame has {count} segments, must be {samples * width}")
    ends = [*offsets[1:count], len(stream)]
    planes = [_segment(stream[at:end], shape[0] * shape[1]) for at, end in zip(offsets[:count], ends, strict=True)]
    if width == 2:
        high, low = (plane.astype(np.uint16) for plane in planes)
        return ((high << np.uint16(8)) | low).reshape(shape)
    return planes[0].reshape(shape) if samples == 1 else np.stack(planes, axis=-1).reshape(*shape, samples)


def _segment(packed: bytes, count: int) -> npt.NDArray[np.uint8]:
    """The first `count` bytes of a segment."""
    out, at = bytearray(), 0
    while at < len(packed) and len(out) < count:
        head = packed[at]
        if head < 128:
            out += packed[at + 1 : at + 2 + head]
            at += 2 + head
        elif head > 128:
            out += packed[at + 1 : at + 2] * (257 - head)
            at += 2
        else:
            at += 1
    if len(out) < count:
        raise ContainerError(f"its RLE segment holds {len(out)} bytes, must be {count}")
    return np.frombuffer(out, np.uint8, count)
