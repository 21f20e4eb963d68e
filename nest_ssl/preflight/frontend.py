"""P1: the front end against files, encoder and lengths; what a shape error at the positions really means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import median
from typing import Any

from nest_ssl.data.lengths import speech_length
from nest_ssl.files.audio import AudioInfo
from nest_ssl.preflight.context import Context
from nest_ssl.preflight.report import Finding, shown

# Keys of the two front ends that decide what a number of the features means.
MEANING = {
    "WavFrontend": (
        "n_mels", "frame_length", "frame_shift", "lfr_m", "lfr_n", "window", "cmvn_file", "snip_edges",
    ),
    "AudioToMelSpectrogramPreprocessor": (
        "features", "window_size", "window_stride", "n_fft", "window", "normalize", "log", "frame_splicing",
    ),
}  # fmt: skip
RATE = {"WavFrontend": "fs", "AudioToMelSpectrogramPreprocessor": "sample_rate"}
PERMUTING = ("OpenAIDataset", "OpenAIDatasetMultiTurn", "SenseVoiceCTCDataset", "SenseVoiceDataset")
NO_CURE = (
    "Resampling changes no duration, so the number of frames is the same at any rate; the positions have no "
    "maximum length. A smaller fs only moves the mel filters (fs 8000: 20-4000 Hz in place of 20-8000), so "
    "that every feature means another frequency than in pre-training."
)
RATIOS = (  # stated / right: (low, high, what it is)
    (0.14, 0.19, "it counts 60-ms frames (low frame rate); FunASR's speech_length counts 10-ms frames"),
    (0.46, 0.54, "it was computed with half the sample rate, as of an 8 kHz array taken for 16 kHz"),
    (1.9, 2.1, "it was computed with twice the sample rate, as of 16 kHz samples taken for 8 kHz"),
    (0.009, 0.012, "it counts seconds"),
    (9.0, 11.0, "it counts milliseconds"),
    (70.0, 90.0, "it counts samples at 8 kHz"),
    (140.0, 180.0, "it counts samples at 16 kHz"),
)
TOLERATED = 0.01  # share of rows whose stated length may be off by more than a frame


def check_frontend(context: Context) -> Iterator[Finding]:
    """Check front end and encoder of the configuration against those of the model's directory."""
    yield from _dataset(context)
    kind = context.value("frontend", "WavFrontend")
    if kind not in RATE:
        yield Finding(
            "error",
            "P1.axes",
            f"frontend is {kind!r}",
            "Features of another layout reach the encoder; WhisperFrontend gives (B, features, T), and "
            "adding positions then fails for odd T: 'The size of tensor a (17) must match the size of "
            "tensor b (18)'.",
            f"Set frontend to {' or '.join(RATE)}.",
        )
        return
    yield from _rate(context, kind)
    for key in MEANING[kind]:
        name = f"frontend_conf.{key}"
        before, now = context.base_value(name), context.value(name)
        if context.base and before != now:
            yield Finding(
                "error",
                "P1.frontend",
                f"{name} is {now!r}, the model's directory has {before!r}",
                "The weights were trained on features made with the former value; each feature, or each "
                "frame, would mean something else.",
                f"Leave {name} away, or train a base model with it.",
            )
    yield from _width(context, kind)
    yield from _audio_tokens(context)
    if context.section("frontend_conf").get("dither", 1.0 if kind == "WavFrontend" else 0.0):
        yield Finding(
            "note",
            "P1.dither",
            f"frontend_conf.dither is {context.value('frontend_conf.dither', '1.0 by default')}",
            "Dither adds noise of the size of the last bit to the samples; a training run draws it from its "
            "seed, FunASR draws it anew each time.",
            "Set frontend_conf.dither=0.0 for features that can be compared bit for bit.",
        )


def _dataset(context: Context) -> Iterator[Finding]:
    for key in ("dataset", "dataset_conf.index_ds"):
        name = context.value(key)
        if name in PERMUTING or (isinstance(name, str) and name.startswith("OpenAI")):
            yield Finding(
                "error",
                "P1.axes",
                f"{key} is {name!r}",
                "That data set permutes features to (B, 560, T): time and feature axis are swapped. The "
                "encoder then adds positions along the wrong axis and stops at the first odd T with 'The "
                "size of tensor a (17) must match the size of tensor b (18) at non-singleton dimension 2'. "
                + NO_CURE,
                f"Set {key}=FunASR and keep frontend_conf.fs.",
            )
        elif name == "FunASRNano":
            yield Finding(
                "error",
                "P1.dataset",
                f"{key} is 'FunASRNano'",
                "Early copies of the published configuration name a data set that FunASR does not register.",
                f"Set {key}=FunASR.",
            )
    if "LLMASR" in str(context.value("model", "")):
        yield Finding(
            "error",
            "P1.axes",
            f"model is {context.value('model')!r}",
            "LLMASR permutes features to (B, 560, T) before the encoder, which wants (B, T, 560).",
            "Set model=FunASRNano.",
        )


def _rate(context: Context, kind: str) -> Iterator[Finding]:
    key = f"frontend_conf.{RATE[kind]}"
    now, before = context.value(key, 16000), context.base_value(key, 16000)
    if context.base and now != before:
        yield Finding(
            "error",
            "P1.fs",
            f"{key} is {now}, the model was trained at {before}",
            "This is no cure for a shape error at the positional encoding, nor for telephone audio. "
            f"{NO_CURE} The shape error itself comes from features with time and feature axis swapped: (B, "
            "560, T) in place of (B, T, 560).",
            f"Keep {key}={before}: 8 kHz files are resampled to it. Or train a base model at {now} and use "
            f"it at {now} throughout.",
        )
    rates = Counter(head.sample_rate for _, _, head in context.opened if isinstance(head, AudioInfo))
    if not rates:
        return
    listed = ", ".join(f"{count} at {rate} Hz" for rate, count in rates.most_common())
    lowest = min(rates)
    if lowest < 8000:
        row = next(
            p for _, p, head in context.opened if isinstance(head, AudioInfo) and head.sample_rate < 8000
        )
        yield Finding(
            "warning",
            "P1.rate",
            f"files have {listed}; {row} has {lowest} Hz",
            "Below 8 kHz even the telephone band is missing; a wrong rate in the header is more likely.",
            "Listen to the file; write its header anew if speed and pitch are wrong.",
        )
    elif rates.keys() != {now}:
        yield Finding(
            "note",
            "P1.rate",
            f"files have {listed}; the front end works at {now} Hz",
            "Files are resampled when they are read; that changes neither duration nor the number of frames. "
            + (
                "Of 8 kHz files the filters above 4 kHz see nothing, as they should."
                if lowest == 8000
                else ""
            ),
            "Nothing to do. Arrays have no header: resample them before they are given to the model.",
        )


def _width(context: Context, kind: str) -> Iterator[Finding]:
    conf = context.section("frontend_conf")
    if kind == "WavFrontend":
        width = int(conf.get("n_mels", 80)) * int(conf.get("lfr_m", 7))
        shown_as = f"n_mels {conf.get('n_mels', 80)} x lfr_m {conf.get('lfr_m', 7)} = {width}"
    else:
        width = int(conf.get("features", 80))
        shown_as = f"features {width}"
    wanted = _encoder_width(context)
    if wanted is not None and wanted != width:
        yield Finding(
            "error",
            "P1.width",
            f"the front end gives {shown_as} values per frame, the encoder takes {wanted}",
            "Front end and encoder do not belong together.",
            f"Set frontend_conf so that a frame has {wanted} values, as in the model's own directory.",
        )
    stated = context.value("dataset_conf.audio_encoder_downsample_rate")
    if kind == "WavFrontend" and stated is not None and int(stated) != int(conf.get("lfr_n", 6)):
        yield Finding(
            "warning",
            "P1.lfr",
            f"dataset_conf.audio_encoder_downsample_rate is {stated}, frontend_conf.lfr_n is "
            f"{conf.get('lfr_n', 6)}",
            "Both say how many 10-ms frames the encoder sees as one.",
            f"Set dataset_conf.audio_encoder_downsample_rate={conf.get('lfr_n', 6)}.",
        )


def _audio_tokens(context: Context) -> Iterator[Finding]:
    """Find a model whose audio takes other tokens in training than in decoding."""
    if context.value("audio_adaptor_conf.use_low_frame_rate", False):
        return
    if context.value("audio_encoder") == "ConformerEncoder":
        return  # both count what the adaptor gives
    yield Finding(
        "warning",
        "P1.low_frame_rate",
        "audio_adaptor_conf.use_low_frame_rate is false, or not set, with SenseVoiceEncoderSmall",
        "As in FunASR, training gives the language model the first eighth of the audio's frames and decoding "
        "gives it all of them: it is trained on something else than it decodes.",
        "Set audio_adaptor_conf.use_low_frame_rate=true, as the released model has it.",
    )


def _encoder_width(context: Context) -> int | None:
    shapes = context.shapes
    if "audio_encoder.encoders0.0.norm1.weight" in shapes:
        return shapes["audio_encoder.encoders0.0.norm1.weight"][0]
    stated = context.value("audio_encoder_conf.feat_in")
    return (
        int(stated) if stated is not None and context.value("audio_encoder") == "ConformerEncoder" else None
    )


def check_lengths(context: Context) -> Iterator[Finding]:
    """Compare stated with real lengths: a constant ratio names the unit that was taken in place of frames."""
    ratios, wrong = [], []
    for row, _, head in context.opened:
        if row.stated is None or len(row.audio) > 1 or not isinstance(head, AudioInfo) or not head.num_frames:
            continue
        right = max(1, speech_length(head.duration_s))
        ratios.append(row.stated / right)
        if abs(row.stated - right) > 1:
            wrong.append((row, right))
    if wrong and len(wrong) > TOLERATED * len(ratios):
        middle = median(row.stated / right for row, right in wrong if row.stated is not None)
        unit = next((text for low, high, text in RATIOS if low <= middle <= high), "")
        row, right = wrong[0]
        yield Finding(
            "error",
            "P1.speech_length",
            f"speech_length is wrong in {len(wrong)} of {len(ratios)} rows that were opened: {row.place} "
            f"({row.key}) states {row.stated}, its audio has {right} frames of 10 ms (ratio {middle:.3g})",
            f"{unit[:1].upper()}{unit[1:]}. Batches and limits are made from it: too small, and a batch "
            "holds many times more than it should, until the collator of FunASR throws samples away."
            if unit
            else "Batches and limits are made from it; the audio has been cut or replaced since it was "
            "written.",
            "Write the lengths again with python -m nest_ssl.bin.prepare: floor((ms - 25) / 10) + 1.",
        )
    for name, found in context.sets:
        missing = [row for row in found.rows if "messages" in row.line and row.stated in (None, 0)]
        if missing:
            yield Finding(
                "error",
                "P1.speech_length",
                f"{len(missing)} of {len(found)} rows of the {name} set have no speech_length, such as "
                f"{missing[0].place}: {missing[0].line.get('speech_length')!r}",
                "FunASR takes a missing length for 0 and drops the row without a word (min_source_length).",
                "Write speech_length = floor((ms - 25) / 10) + 1 into each row (nest_ssl.bin.prepare does).",
            )
    short = [
        row for row in context.training.rows if (frames := context.frames(row)) is not None and frames < 1
    ]
    if short:
        yield Finding(
            "error",
            "P1.short",
            f"{len(short)} rows are shorter than one window of 25 ms: {shown(row.place for row in short)}",
            "There is not one frame of features in them.",
            "Remove these rows.",
        )
    yield from _positions(context)


def _positions(context: Context) -> Iterator[Finding]:
    most = context.llm_config.get("max_position_embeddings")
    lengths = context.lengths.get("sequence_length")
    if not most or lengths is None:
        return
    long = int((lengths > most).sum())
    if long:
        row: Any = context.training.rows[int(lengths.argmax() if long == 1 else (lengths > most).argmax())]
        yield Finding(
            "error",
            "P1.positions",
            f"{long} rows have more LLM tokens than max_position_embeddings {most}, such as {row.place}",
            "The language model was never trained on positions that far; this is its only positional limit, "
            "the audio encoder has none.",
            "Cut such recordings at pauses (30 s at most) or remove the rows.",
        )


def check_probe(context: Context) -> Iterator[Finding]:
    """Run one forward and backward pass on the longest and on an odd-length row; weights stay as they are."""
    rows = [row for row in context.training.rows if context.frames(row)]
    readable = {
        row.place for row, _, head in context.opened if isinstance(head, AudioInfo) and head.num_frames
    }
    rows = [row for row in rows if row.place in readable and all(text.strip() for text in row.texts)]
    if not rows or context.probe is None:
        return
    longest = max(rows, key=lambda row: context.frames(row) or 0)
    odd = next((row for row in rows if context.encoder_frames(context.frames(row) or 1) % 2), rows[0])
    for row, what in ((longest, "the longest"), (odd, "an odd-length")):
        try:
            loss = context.probe([row])
        except (RuntimeError, ValueError, IndexError) as error:
            yield Finding(
                "error",
                "P1.probe",
                f"a forward and backward pass on {what} row ({row.place}) failed: {str(error)[:300]}",
                "At a sum with the positions: features are (B, 560, T) in place of (B, T, 560). Out of "
                "memory: the row does not fit the device.",
                "Check the front end's findings above; keep frontend_conf.fs.",
            )
            continue
        if loss != loss or loss in (float("inf"), float("-inf")):
            yield Finding(
                "error",
                "P1.probe",
                f"the loss on {what} row ({row.place}) is {loss}",
                "Weights or features hold values that are not finite, or CTC cannot align the text.",
                "See the findings on weights and CTC.",
            )
        else:
            frames = context.encoder_frames(context.frames(row) or 1)
            yield Finding(
                "note",
                "P1.probe",
                f"forward and backward on {what} row ({row.key}, {frames} encoder frames): loss {loss:.4f}",
                "The features have the right axes; odd lengths and the longest row pass.",
            )
