"""What is compared: each function prints its rows of the table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from nemo_comparison.table import Table, difference_of
from torch import Tensor

from funasr_comparison.peers import Peers, quiet
from nest_ssl.data.fun_asr_features import resampled
from nest_ssl.decoding.fun_asr_recognizer import Options, Recognizer, Segment
from nest_ssl.files.audio import read_audio
from nest_ssl.text.chat import inference_prompt

# Absolute tolerances of fp32 on a CPU: what another BLAS or number of threads makes of the same sums.
FEATURES, ENCODER, LOGITS, LOSS = 5e-4, 2e-5, 1e-4, 1e-5
AUDIO = re.compile(r"<\|startofspeech\|>!(.*?)<\|endofspeech\|>")


def compare_weights(peers: Peers, table: Table) -> None:
    """Names, and values after loading."""
    theirs, ours = peers.theirs.state_dict(), peers.ours.state_dict()
    odd = sorted(theirs.keys() ^ ours.keys())
    table.row("weights: names that one side lacks", len(odd), 0, f"{len(ours)} tensors {', '.join(odd[:2])}")
    both = theirs.keys() & ours.keys()
    table.row("weights: values", max(difference_of(ours[key].float(), theirs[key].float()) for key in both))
    ctc = (peers.theirs.ctc is None) != (peers.ours.ctc is None)
    table.row("weights: CTC branch on one side only", float(ctc))


def compare_batch(peers: Peers, table: Table) -> None:
    """Front end, token ids, labels, positions of the audio."""
    theirs, ours = peers.their_batch, peers.our_batch
    for key, expected in theirs.items():
        given = ours.get(key)
        tolerance = FEATURES if key == "speech" else 0.0
        name = "front end (speech)" if key == "speech" else key
        difference = float("inf") if given is None else difference_of(given, expected)
        table.row(f"batch: {name}", difference, tolerance, f"{tuple(expected.shape)}")


@torch.no_grad()
def compare_modules(peers: Peers, table: Table) -> None:
    """Every module on FunASR's batch, each on FunASR's input to it."""
    theirs, ours, batch = peers.theirs, peers.ours, peers.their_batch
    if "speech" not in batch:
        return
    speech, lengths = batch["speech"], batch["speech_lengths"][:, 0]
    expected, frames = theirs.audio_encoder(speech.clone(), lengths)  # FunASR changes its input in place
    found, found_frames = ours.encode(speech, lengths)
    table.row("audio_encoder", valid_difference(found, expected, frames), ENCODER, f"{tuple(expected.shape)}")
    table.row("audio_encoder: lengths", difference_of(found_frames.long(), frames.long()))
    adapted, adapted_frames = theirs.audio_adaptor(expected.clone(), frames)
    found, _ = ours.adapt(expected.clone(), frames)
    table.row("audio_adaptor", valid_difference(found, adapted, adapted_frames), ENCODER)
    if theirs.ctc is None or ours.ctc is None:
        return
    decoded, decoded_frames = theirs.ctc_decoder(expected.clone(), frames)
    log_probs = theirs.ctc.log_softmax(decoded)
    found = ours.ctc_log_probs(expected.clone(), frames)
    table.row("ctc: log probabilities", valid_difference(found, log_probs, decoded_frames), LOGITS)


@torch.no_grad()
def compare_losses(peers: Peers, table: Table) -> None:
    """forward(**batch): logits, loss, accuracy, weight."""
    outputs: list[Tensor] = []
    results = []
    for model in (peers.theirs, peers.ours):
        handle = model.llm.register_forward_hook(lambda *given: outputs.append(given[2].logits))
        try:
            with quiet():
                results.append(model(**{key: value.clone() for key, value in peers.their_batch.items()}))
        finally:
            handle.remove()
    (loss, stats, weight), (our_loss, our_stats, our_weight) = results
    mask = peers.their_batch["attention_mask"] > 0
    table.row(
        "llm: logits", difference_of(outputs[1][mask], outputs[0][mask]), LOGITS, f"{int(mask.sum())} tokens"
    )
    table.row("loss", abs(float(our_loss) - float(loss)), LOSS, f"{float(loss):.6f}")
    for key in sorted(stats.keys() & our_stats.keys() - {"loss"}):
        table.row(f"stats: {key}", abs(float(our_stats[key]) - float(stats[key])), LOSS)
    table.row("weight", abs(float(our_weight) - float(weight)))


def compare_text(peers: Peers, table: Table) -> None:
    """Greedy text of the language model and of CTC, utterance by utterance, as AutoModel.generate does."""
    audio = dict(_audio_of(peers))
    recognizer = Recognizer(peers.ours, Options(mode="llm", beam_size=1, gate="off"))
    differing: dict[str, list[str]] = {"text": [], "ctc_text": []}
    compared = dict.fromkeys(differing, 0)
    for key, path in audio.items():
        with quiet():
            expected = peers.auto.generate(input=[path], cache={}, batch_size=1)[0]
        samples = _samples(path, recognizer.sample_rate)
        found = recognizer.recognize([Segment(samples, inference_prompt())])[0]
        for name, given in (("text", found.text), ("ctc_text", found.text_ctc)):
            if name in expected:
                compared[name] += 1
                if (given or "") != expected[name]:
                    differing[name].append(f"{key}: {given!r} instead of {expected[name]!r}")
    for name, wrong in differing.items():
        if compared[name]:
            note = f"of {compared[name]} {'; '.join(wrong[:2])}"
            table.row(f"decoded {name}: utterances that differ", len(wrong), 0, note)


def _audio_of(peers: Peers) -> list[tuple[str, str]]:
    """(key, path of the first audio) of the rows compared."""
    found = []
    wanted = set(peers.keys)
    for line in peers.data.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line) if line.strip() else {}
        audio = AUDIO.search("".join(turn["content"] for turn in row.get("messages", [])))
        if row.get("key") in wanted and audio:
            found.append((row["key"], audio[1]))
    return found


def _samples(path: str, rate: int) -> np.ndarray:
    samples, file_rate = read_audio(path, channel="average")
    return resampled(samples, file_rate, rate)


def valid_difference(ours: Tensor, theirs: Tensor, frames: Tensor) -> float:
    """The largest difference of (B, T, D) over the frames that are no padding; infinite for other shapes."""
    if ours.shape != theirs.shape:
        return float("inf")
    valid = torch.arange(ours.shape[1])[None] < frames[:, None]
    return difference_of(ours[valid], theirs[valid])


PARTS: dict[str, Callable[[Peers, Table], None]] = {
    "weights": compare_weights,
    "batch": compare_batch,
    "modules": compare_modules,
    "losses": compare_losses,
    "text": compare_text,
}
