"""Shorten, versions 1 to 3: the lossless compression inside NIST SPHERE files ("embedded-shorten").

The stream is Rice codes, most significant bit first, after the bytes "ajkg" and a version.  Each block of one
channel is a residual of a fixed predictor (differences of order 0 to 3) or of a quantised linear predictor.
Source: T. Robinson, "SHORTEN: simple lossless and near-lossless waveform compression", CUED/F-INFENG/TR.156,
1994, and the constants of its version 2 as the NIST tools use them.
"""

from __future__ import annotations

from functools import cache

import numpy as np

MAGIC = b"ajkg"

ULAW_AS_WRITTEN, UNSIGNED_8, ULAW, ALAW = 0, 2, 8, 9  # sample types of a stream
SAMPLE_TYPES = {
    0: "ulaw",
    1: "pcm8",
    2: "pcm8",
    3: "pcm16",
    4: "pcm16",
    5: "pcm16",
    6: "pcm16",
    8: "ulaw",
    9: "alaw",
}
MEANS = {2: 0x80, 4: 0x8000, 6: 0x8000}

DIFFERENCE_3, QUIT, BLOCK_SIZE, BIT_SHIFT, LINEAR, ZERO, VERBATIM = 3, 4, 5, 6, 7, 8, 9

MOST_SAMPLES = 1 << 26  # of one channel where no header states their number: two hours at 8 kHz
TOLERATED_SAMPLES = 1 << 20  # of one channel, more than its header states
WINDOW_BYTES = 1 << 16
LONGEST_NUMBER = 64  # bits
LONGEST_ZEROS = 1 << 20  # bits; a longer run of zeros is damage


class _Bits:
    """Rice codes from bytes; a window of them is kept as the position of the next 1 from each bit on."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.total = 8 * len(content)
        self.position = 0
        self._start = self._end = 0
        self._bits = np.zeros(0, np.uint8)
        self._next_one: list[int] = []

    def unsigned(self, width: int) -> int:
        """One code: the zeros before a 1, then `width` bits."""
        if width > LONGEST_NUMBER:
            raise ValueError(f"a number of {width} bits: the stream is damaged")
        one = self._one_from(self.position)
        value, end = one - self.position, one + 1 + width
        if end > self.total:
            raise ValueError("the stream ends within a code")
        for bit in range(one + 1, end):
            value = 2 * value + (self.content[bit >> 3] >> (7 - (bit & 7)) & 1)
        self.position = end
        return value

    def signed(self, width: int) -> int:
        value = self.unsigned(width + 1)
        return ~(value >> 1) if value & 1 else value >> 1

    def number(self) -> int:
        """A number that states its own width."""
        return self.unsigned(self.unsigned(2))

    def signed_block(self, width: int, count: int) -> np.ndarray:
        """`count` signed codes of `width` bits, (count,) int64."""
        parts = []
        while count:
            part = self._signed_run(width + 1, count)
            parts.append(part)
            count -= len(part)
        values = np.concatenate(parts)
        return np.where(values & 1, ~(values >> 1), values >> 1)

    def _signed_run(self, width: int, count: int) -> np.ndarray:
        """At least one code and at most `count`, as many as the window holds."""
        self._one_from(self.position)
        start, next_one, step = self._start, self._next_one, 1 + width
        last = len(next_one) - step  # a code that ends in the window has its 1 before this
        position = self.position - start
        ones: list[int] = []
        append = ones.append
        for _ in range(count):
            if position >= last:
                break
            one = next_one[position]
            if one >= last:
                break
            append(one)
            position = one + step
        if not ones:
            return np.array([self.unsigned(width)], np.int64)
        found = np.array(ones, np.int64)
        begins = np.concatenate([[self.position - start], found[:-1] + step])
        values = found - begins
        for bit in range(1, width + 1):
            values = 2 * values + self._bits[found + bit]
        self.position = start + position
        return values

    def _one_from(self, position: int) -> int:
        """Position of the first 1 from `position` on."""
        while True:
            if not self._start <= position < self._end:
                self._load(position)
            one = self._next_one[position - self._start]
            if one < len(self._next_one):
                return self._start + one
            if self._end >= self.total or self._end - position > LONGEST_ZEROS:
                raise ValueError("the stream ends within a code, or is damaged")
            self._load(position, 2 * max(WINDOW_BYTES, (self._end - self._start) // 8))

    def _load(self, position: int, size: int = WINDOW_BYTES) -> None:
        if position >= self.total:
            raise ValueError("the stream ends without its end mark")
        first = position // 8
        piece = np.frombuffer(self.content, np.uint8, min(size, len(self.content) - first), first)
        self._bits = np.unpackbits(piece)
        positions = np.where(self._bits, np.arange(len(self._bits)), len(self._bits))
        self._next_one = np.minimum.accumulate(positions[::-1])[::-1].tolist()
        self._start, self._end = 8 * first, 8 * first + len(self._bits)


def decode_shorten(
    content: bytes, channels: int | None = None, num_frames: int = -1
) -> tuple[np.ndarray, str]:
    """Decode a stream that begins with "ajkg"; num_frames: how many it holds, -1 = not known.

    Gives (samples, coding): int64 (T, channels), and what they are: "pcm16" or "pcm8" values around zero, or
    "ulaw" / "alaw" bytes.  Raises ValueError for damage, which many more samples than `num_frames` are, for
    a number of channels other than `channels`, and for the types that shorten compresses with loss.
    """
    if content[:4] != MAGIC:
        raise ValueError("no shorten stream")
    version = content[4] if len(content) > 4 else 0
    if version not in (1, 2, 3):
        raise ValueError(f"shorten version {version} is not known (1 to 3 are)")
    bits = _Bits(content[5:])
    kind = bits.number()
    if kind not in SAMPLE_TYPES:
        raise ValueError(f"shorten sample type {kind} is not decoded here; sph2pipe may decode the file")
    num_channels = bits.number()
    if not 0 < num_channels <= 64 or (channels is not None and num_channels != channels):
        raise ValueError(f"the shorten stream has {num_channels} channels, not {channels}")
    block, max_order, num_means, num_skipped = (bits.number() for _ in range(4))
    if not 0 < block <= 1 << 20 or max_order > 1024 or num_means > 1024:
        raise ValueError("the head of the shorten stream is damaged")
    for _ in range(num_skipped):
        bits.unsigned(7)
    state = [_Channel(max(3, max_order), num_means, MEANS.get(kind, 0), version) for _ in range(num_channels)]
    pieces: list[list[np.ndarray]] = [[] for _ in range(num_channels)]
    turn = shift = num_samples = 0
    largest = block
    limit = num_channels * (num_frames + TOLERATED_SAMPLES if num_frames >= 0 else MOST_SAMPLES)
    while (function := bits.unsigned(2)) != QUIT:
        if function == BLOCK_SIZE:
            block = bits.number()
            if not 0 < block <= largest:
                raise ValueError(f"a block of {block} samples: the stream is damaged")
        elif function == BIT_SHIFT:
            shift = bits.unsigned(2)
            if shift > 32:
                raise ValueError("a shift of more than 32 bits: the stream is damaged")
        elif function == VERBATIM:
            for _ in range(bits.unsigned(5)):
                bits.unsigned(8)
        elif function in (ZERO, LINEAR) or function <= DIFFERENCE_3:
            num_samples += block
            if num_samples > limit:
                raise ValueError(f"more than {limit} samples: the stream or the header is damaged")
            values = state[turn].block(function, bits, block, shift)
            pieces[turn].append(_shifted(values, shift, kind))
            turn = (turn + 1) % num_channels
        else:
            raise ValueError(f"function {function} is not known: the stream is damaged")
    whole = [np.concatenate(parts) if parts else np.zeros(0, np.int64) for parts in pieces]
    if len({len(part) for part in whole}) > 1:
        raise ValueError("the channels are of different length: the stream is damaged")
    samples = np.stack(whole, axis=1)
    if kind == ALAW:
        samples = np.where(samples < 0, (127 - samples) ^ 0xD5, (samples + 128) ^ 0x55) & 0xFF
    elif kind in MEANS:
        samples = samples - MEANS[kind]
    return samples, SAMPLE_TYPES[kind]


class _Channel:
    """What one channel remembers between its blocks: its last samples and the means of its last blocks."""

    def __init__(self, wrap: int, num_means: int, mean: int, version: int) -> None:
        self.history = np.zeros(wrap, np.int64)
        self.means = [mean] * max(1, num_means)
        self.num_means = num_means
        self.version = version

    def block(self, function: int, bits: _Bits, count: int, shift: int) -> np.ndarray:
        """The next (count,) samples, int64, before the shift."""
        if function == ZERO:
            values = np.zeros(count, np.int64)
        else:
            width = bits.unsigned(3)
            if width > 40:
                raise ValueError("a residual of more than 40 bits: the stream is damaged")
            offset = self._offset(shift)
            if function == LINEAR:
                values = self._linear(bits, width, count, offset)
            else:
                values = bits.signed_block(width, count)
                if function == 0:
                    values = values + offset
                else:
                    values = _summed(values, self.history, function)
        if self.num_means:
            total = int(values.sum()) + (0 if self.version < 2 else count // 2)
            mean = _towards_zero(total, count)
            self.means = [*self.means[1:], mean if self.version < 2 else mean << shift]
        self.history = np.concatenate([self.history, values])[-len(self.history) :]
        return values

    def _offset(self, shift: int) -> int:
        if self.num_means == 0:
            return self.means[0]
        if self.version < 2:
            return _towards_zero(sum(self.means), self.num_means)
        return _towards_zero(sum(self.means) + self.num_means // 2, self.num_means) >> shift

    def _linear(self, bits: _Bits, width: int, count: int, offset: int) -> np.ndarray:
        """Linear prediction with coefficients of 5 fractional bits; each sample needs those before it."""
        order = bits.unsigned(2)
        if order > len(self.history):
            raise ValueError(f"a predictor of order {order}: the stream is damaged")
        coefficients = [bits.signed(5) for _ in range(order)]
        residual = bits.signed_block(width, count).tolist()
        values = [int(value) - offset for value in self.history[len(self.history) - order :]]
        half = 32 if self.version > 1 else 0
        for value in residual:
            past = values[: -order - 1 : -1]
            predicted = half + sum(a * b for a, b in zip(coefficients, past, strict=True))
            values.append(value + (predicted >> 5))
        return np.array(values[order:], np.int64) + offset


def _summed(residual: np.ndarray, history: np.ndarray, order: int) -> np.ndarray:
    """Undo `order` differences, going on from the samples in `history`."""
    past = history[-3:]
    for level in reversed(range(order)):
        residual = np.cumsum(residual) + np.diff(past, n=level)[-1]
    return residual


def _towards_zero(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator) if numerator < 0 else numerator // denominator


def _shifted(values: np.ndarray, shift: int, kind: int) -> np.ndarray:
    if kind not in (ULAW_AS_WRITTEN, ULAW):
        return values << shift
    index = values + 128
    if kind == ULAW:  # the code of minus zero has a value of its own, -1, and what is below moves by one
        index = np.where(values < -1, index + 1, index)
    if ((index < 0) | (index > 255)).any() or shift > 12:
        raise ValueError("a mu-law value out of range: the stream is damaged")
    codes = _ulaw_codes(shift)[index]
    return np.where(values == -1, 127, codes) if kind == ULAW else codes


@cache
def _ulaw_codes(shift: int) -> np.ndarray:
    """mu-law bytes for the values -128 to 127 of a block, (256,) int64.

    Where all magnitudes of a block are multiples of 2**(shift + 1) (in 14 bits), the codes that occur are
    numbered from the middle outwards by their magnitude, and those that cannot occur follow at both ends.
    """
    step = 1 << (shift + 1)

    def code(magnitude: int) -> int:
        biased = min(magnitude + 33, 8191)
        segment = biased.bit_length() - 6
        return 255 - 16 * segment - ((biased >> (segment + 1)) - 16)

    positive = {code(value) for value in range(0, 8192, step)}
    negative = {code(value) - 128 for value in range(step, 8193, step)}
    table = [
        *sorted(set(range(128)) - negative),
        *sorted(negative),
        *sorted(positive, reverse=True),
        *sorted(set(range(128, 256)) - positive, reverse=True),
    ]
    return np.array(table, np.int64)
