"""A plain decoder of G.726, sample by sample, by the computational details of the recommendation (4.2).

Slow, and limited to 14 bits where the recommendation limits: what the library's output is measured against.
"""

from __future__ import annotations

from dataclasses import dataclass

# by kbit/s and the code's magnitude: log2 of the quantised difference (tables 7 to 10), multiplier W of the
# scale factor, and F of the speed control; in the units of 4.2
TABLES = {
    16: ([116, 365], [-22, 439], [0, 7]),
    24: ([-2048, 135, 273, 373], [-4, 30, 137, 582], [0, 1, 2, 7]),
    32: (
        [-2048, 4, 135, 213, 273, 323, 373, 425],
        [-12, 18, 41, 64, 112, 198, 355, 1122],
        [0, 0, 0, 1, 1, 1, 3, 7],
    ),
    40: (
        [-2048, -66, 28, 104, 169, 224, 274, 318, 358, 395, 429, 459, 488, 514, 539, 566],
        [14, 14, 24, 39, 40, 41, 58, 100, 141, 179, 219, 280, 358, 440, 529, 696],
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6],
    ),
}


@dataclass(frozen=True)
class Float:
    """Sign, 4 bits of exponent and 6 of mantissa: what a predictor multiplies with (FLOATA, FLOATB)."""

    negative: bool
    exponent: int
    mantissa: int

    @classmethod
    def of(cls, negative: bool, magnitude: int) -> Float:
        exponent = magnitude.bit_length()
        return cls(negative, exponent, (magnitude << 6 >> exponent) if magnitude else 32)


def multiplied(coefficient: int, value: Float) -> int:
    """FMULT."""
    coefficient >>= 2
    magnitude = abs(coefficient) & 0x1FFF
    exponent = magnitude.bit_length()
    mantissa = (magnitude << 6 >> exponent) if magnitude else 32
    product = (mantissa * value.mantissa + 48) >> 4
    shift = exponent + value.exponent - 19
    product = (product << 7) >> (7 - shift) if shift <= 7 else product << shift
    product &= 0x7FFF
    return -product if (coefficient < 0) != value.negative else product


def clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def codes(coded: bytes, kbps: int) -> list[int]:
    """Take the codes of kbps / 8 bits, the first one in the highest bits."""
    width = kbps // 8
    bits = int.from_bytes(coded, "big")
    count = 8 * len(coded) // width
    spare = 8 * len(coded) - width * count
    return [(bits >> (spare + width * (count - 1 - n))) & ((1 << width) - 1) for n in range(count)]


def decode(coded: bytes, kbps: int) -> list[int]:
    """Give the 16-bit samples, multiples of 4, limited to 14 bits before."""
    log_steps, scales, speeds = TABLES[kbps]
    width, b_leak = kbps // 8, 9 if kbps == 40 else 8
    fast, slow = 544, 34816  # YU, YL
    short, long, speed = 0, 0, 0  # DMS, DML, AP
    tone = False  # TD
    a, b = [0, 0], [0] * 6
    differences, outputs = [Float(False, 0, 32)] * 6, [Float(False, 0, 32)] * 2
    signs = [False, False]  # PK1, PK2
    decoded = []
    for code in codes(coded, kbps):
        zeros_part = sum(multiplied(b[n], differences[n]) for n in range(6))
        all_part = zeros_part + sum(multiplied(a[n], outputs[n]) for n in range(2))
        zero_estimate, estimate = zeros_part >> 1, all_part >> 1  # SEZ, SE

        mix = min(speed >> 2, 64)
        apart = fast - (slow >> 6)
        scale = (slow >> 6) + (apart * mix >> 6 if apart >= 0 else -(-apart * mix >> 6))  # Y

        negative = bool(code >> (width - 1))
        index = code ^ ((1 << width) - 1) if negative else code
        log_difference = log_steps[index] + (scale >> 2)
        magnitude = 0
        if log_difference >= 0:
            magnitude = ((128 + (log_difference & 127)) << 7) >> (14 - (log_difference >> 7 & 15))
        difference = -magnitude if negative else magnitude
        output = estimate + difference
        decoded.append(4 * clamp(output, -8192, 8191))

        whole = slow >> 15
        threshold = 31 << 10 if whole > 9 else (32 + (slow >> 10 & 31)) << whole
        transition = tone and magnitude > (threshold + (threshold >> 1)) >> 1

        fast = clamp(scale + ((scales[index] * 32 - scale) >> 5), 544, 5120)
        slow += fast + (-slow >> 6)

        partial = zero_estimate + difference  # its sign steers the poles
        sign = partial < 0
        if transition:
            a, b = [0, 0], [0] * 6
        else:
            second = a[1] - (a[1] >> 7)
            if partial:
                first = clamp(a[0], -8191, 8191)
                if sign == signs[0]:
                    first = -first
                second += 128 if sign == signs[1] else -128
                second += first >> 5
            second = clamp(second, -12288, 12288)
            pull = 0 if not partial else (192 if sign == signs[0] else -192)
            limit = 15360 - second
            a = [clamp(a[0] - (a[0] >> 8) + pull, -limit, limit), second]
            for n in range(6):
                b[n] -= b[n] >> b_leak
                if magnitude:
                    b[n] += 128 if negative == differences[n].negative else -128
        differences = [Float.of(negative, magnitude), *differences[:5]]
        outputs = [Float.of(output < 0, abs(output)), outputs[0]]
        signs = [sign, signs[0]]

        tone = False if transition else a[1] < -11776
        activity = speeds[index] << 9
        short += (activity - short) >> 5
        long += ((activity << 2) - long) >> 7
        if transition:
            speed = 256
        elif scale < 1536 or tone or abs((short << 2) - long) >= long >> 3:
            speed += (512 - speed) >> 4
        else:
            speed += -speed >> 4
    return decoded
