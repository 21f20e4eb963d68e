"""Lost frames of GSM full rate, concealed in the parameters that the decoder gets.

Source: GSM 06.11 (3GPP TS 46.011), the example solution of clause 6.  The first lost frame is the last good
one again; in every further one the block amplitudes are four steps lower (of 64, logarithmic), with grid
positions at random; when all amplitudes are at zero, after at most 320 ms, come silence frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Bits of a packet, most significant first: 4 of a signature, 36 of log area ratios, then four blocks of 56:
# lag 7, gain 2, grid position 2, block amplitude 6, thirteen pulses of 3.
SIGNATURE = 0xD
LOG_AREA_RATIO_BITS = (6, 6, 5, 5, 4, 4, 3, 3)
HEAD_BYTES, BLOCK_BYTES, BLOCKS = 5, 7, 4
AMPLITUDE_SHIFT, AMPLITUDE_MASK = 39, 0x3F
GRID_SHIFT, GRID_MASK = 45, 0x3
FADE_STEPS = 4

# GSM 06.11 table 1
SILENCE_LOG_AREA_RATIOS = (42, 39, 21, 10, 9, 4, 3, 2)
SILENCE_LAG, SILENCE_GRID = 40, 1  # gain and block amplitude are 0
SILENCE_PULSES = (3, 4, 3, 4, 4, 3, 3, 3, 3, 4, 4, 3, 3)


def conceal(packets: np.ndarray, lost: Sequence[bool]) -> np.ndarray:
    """Give packets (N, 33) uint8 in which every lost one is replaced; the input itself if none is.

    lost: N flags.  Frames lost before the first good one become silence frames.  The grid positions are
    functions of the frame's number, so that the same loss always sounds the same.
    """
    if not any(lost):
        return packets
    filled = packets.copy()
    substitute, in_a_row = silence_frame(), 0
    for frame, bad in enumerate(lost):
        if bad:
            in_a_row += 1
            if in_a_row > 1:
                substitute = _faded(substitute, frame)
            filled[frame] = np.frombuffer(substitute, np.uint8)
        else:
            substitute, in_a_row = packets[frame].tobytes(), 0
    return filled


def silence_frame() -> bytes:
    """Give the 33 bytes of table 1."""
    head = SIGNATURE
    for bits, ratio in zip(LOG_AREA_RATIO_BITS, SILENCE_LOG_AREA_RATIOS, strict=True):
        head = head << bits | ratio
    block = SILENCE_LAG << 4 | SILENCE_GRID  # lag, gain 0, grid position
    block <<= 6
    for pulse in SILENCE_PULSES:
        block = block << 3 | pulse
    return head.to_bytes(HEAD_BYTES, "big") + BLOCKS * block.to_bytes(BLOCK_BYTES, "big")


def _faded(packet: bytes, frame: int) -> bytes:
    """Give the packet with lower amplitudes, or the silence frame if they are at the lowest already."""
    blocks = [
        int.from_bytes(packet[start : start + BLOCK_BYTES], "big")
        for start in range(HEAD_BYTES, len(packet), BLOCK_BYTES)
    ]
    amplitudes = [block >> AMPLITUDE_SHIFT & AMPLITUDE_MASK for block in blocks]
    if not any(amplitudes):
        return silence_frame()
    faded = packet[:HEAD_BYTES]
    for number, (block, amplitude) in enumerate(zip(blocks, amplitudes, strict=True)):
        lower = max(amplitude - FADE_STEPS, 0)
        # the top bits of a product with 2**32 over the golden ratio: evenly spread, without a state
        grid = (BLOCKS * frame + number + 1) * 2654435769 % 2**32 >> 30
        block &= ~(AMPLITUDE_MASK << AMPLITUDE_SHIFT | GRID_MASK << GRID_SHIFT)
        block |= lower << AMPLITUDE_SHIFT | grid << GRID_SHIFT
        faded += block.to_bytes(BLOCK_BYTES, "big")
    return faded
