"""Encoders for the tests: a plain, slow writer of shorten streams and of SPHERE headers."""

from __future__ import annotations

import numpy as np


class BitWriter:
    """Rice codes, one character per bit."""

    def __init__(self) -> None:
        self.bits: list[str] = []

    def unsigned(self, value: int, width: int) -> None:
        low = format(value & ((1 << width) - 1), f"0{width}b") if width else ""
        self.bits.append("0" * (value >> width) + "1" + low)

    def signed(self, value: int, width: int) -> None:
        self.unsigned(~value << 1 | 1 if value < 0 else value << 1, width + 1)

    def number(self, value: int) -> None:
        width = max(0, value.bit_length() - 1)
        self.unsigned(width, 2)
        self.unsigned(value, width)

    def content(self) -> bytes:
        text = "".join(self.bits)
        text += "0" * (-len(text) % 32)
        return int(text, 2).to_bytes(len(text) // 8, "big")


def shorten(
    channels: list[list[int]],
    kind: int,
    functions: list[int],
    shift: int = 0,
    block: int = 256,
    num_means: int = 4,
    linear: tuple[int, ...] = (),
    verbatim: bytes = b"",
) -> bytes:
    """Write a version 2 stream of sample type `kind`, whose blocks take the predictors `functions` in turn.

    The predictors are written sample by sample as TR.156 defines them.  The values are what is stored, before
    the shift.  7 is the linear predictor with coefficients `linear` / 32, 8 a block of zeros (its samples are
    ignored).
    """
    out = BitWriter()
    for value in (kind, len(channels), block, len(linear), num_means, 0):
        out.number(value)
    if verbatim:
        out.unsigned(9, 2)
        out.unsigned(len(verbatim), 5)
        for byte in verbatim:
            out.unsigned(byte, 8)
    if shift:
        out.unsigned(6, 2)
        out.unsigned(shift, 2)
    length = len(channels[0])
    history = [[0] * max(3, len(linear)) for _ in channels]
    means = [[{2: 128, 4: 32768, 6: 32768}.get(kind, 0)] * max(1, num_means) for _ in channels]
    for number, begin in enumerate(range(0, length, block)):
        function = functions[number % len(functions)]
        count = min(block, length - begin)
        if count < block:
            out.unsigned(5, 2)
            out.number(count)
        for channel, samples in enumerate(channels):
            part = [0] * count if function == 8 else samples[begin : begin + count]
            past = history[channel] + part
            at = len(history[channel])
            total = sum(means[channel]) + num_means // 2
            offset = (int(total / num_means) >> shift) if num_means else means[channel][0]
            residual = []
            for i in range(at, at + count):
                a, b, c = past[i - 1], past[i - 2], past[i - 3]
                if function == 7:
                    order = len(linear)
                    lagged = [past[i - 1 - j] - offset for j in range(order)]
                    predicted = (32 + sum(x * y for x, y in zip(linear, lagged, strict=True))) >> 5
                    predicted += offset
                else:
                    predicted = {0: offset, 1: a, 2: 2 * a - b, 3: 3 * (a - b) + c, 8: 0}[function]
                residual.append(past[i] - predicted)
            out.unsigned(function, 2)
            if function != 8:
                width = max(1, int(np.mean(np.abs(residual)))).bit_length()
                out.unsigned(width, 3)
                if function == 7:
                    out.unsigned(len(linear), 2)
                    for coefficient in linear:
                        out.signed(coefficient, 5)
                for value in residual:
                    out.signed(value, width)
            if num_means:
                mean = int((sum(part) + count // 2) / count)
                means[channel] = [*means[channel][1:], mean << shift]
            history[channel] = past[-len(history[channel]) :]
    out.unsigned(4, 2)
    return b"ajkg\x02" + out.content()


def sphere(content: bytes, **fields: int | str) -> bytes:
    """Put a SPHERE header of 1024 bytes before `content`."""
    values = {"sample_rate": 8000, "channel_count": 1, "sample_n_bytes": 2, **fields}
    lines = [
        f"{name} -i {value}" if isinstance(value, int) else f"{name} -s{len(value)} {value}"
        for name, value in values.items()
    ]
    head = "\n".join(["NIST_1A", "   1024", *lines, "end_head", ""]).encode()
    return head.ljust(1024) + content
