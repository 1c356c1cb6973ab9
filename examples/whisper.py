"""Merge Whisper models, and measure them on recordings by the loss of their transcripts.

Usage: python examples/whisper.py HELD_OUT.jsonl OUT MODEL MODEL [MODEL ...]

A line of HELD_OUT.jsonl is {"audio": "a.wav", "text": "what is said"}, with paths relative to it,
of recordings that no model was trained on. No task reads sound: a FunctionObjective takes any loss.
"""

from __future__ import annotations

import json
import sys
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import wavfile
from scipy.signal import resample_poly
from torch.nn.functional import cross_entropy
from transformers import WhisperProcessor

import mergekit_geo as geo

IGNORED = -100  # the label of a position that does not count
AT_ONCE = 8


def recording(path: Path, rate: int) -> Any:
    """Samples of a WAV file from -1 to 1, one channel, at the model's rate."""
    own, samples = wavfile.read(path)
    scale = np.iinfo(samples.dtype).max if samples.dtype.kind in "iu" else 1
    mono = samples.astype(np.float32).reshape(len(samples), -1).mean(axis=1) / scale
    shared = gcd(own, rate)
    return resample_poly(mono, rate // shared, own // shared)


def batches_of(held_out: Path, model: str) -> list[dict[str, torch.Tensor]]:
    """Log-mel features and tokens of every recording, in order, on the CPU."""
    processor: Any = WhisperProcessor.from_pretrained(model)
    rate = processor.feature_extractor.sampling_rate
    rows = [json.loads(line) for line in held_out.read_text("utf-8").splitlines() if line]
    found = []
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        sounds = [recording(held_out.parent / row["audio"], rate) for row in some]
        heard = processor.feature_extractor(sounds, sampling_rate=rate, return_tensors="pt")
        said = processor.tokenizer(
            [row["text"] for row in some], padding=True, return_tensors="pt", return_length=False
        )
        labels = said.input_ids.masked_fill(said.attention_mask == 0, IGNORED)
        found.append({"input_features": heard.input_features, "labels": labels})
    return found


def transcript_loss(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mean negative log-likelihood of each transcript's tokens, in nats, and how many are right."""
    labels = batch["labels"].to(model.device)
    start = model.config.decoder_start_token_id
    if (labels[:, 0] == start).all():  # the model puts it before the labels itself
        labels = labels[:, 1:]
    features = batch["input_features"].to(model.device, model.dtype)
    logits = model(input_features=features, labels=labels).logits.float()
    counted = labels != IGNORED
    loss = cross_entropy(logits.mT, labels, reduction="none", ignore_index=IGNORED)
    right = (logits.argmax(dim=-1) == labels) & counted
    weight = counted.sum(dim=1)
    return {"loss": loss.sum(1) / weight, "score": right.sum(1) / weight, "weight": weight}


if __name__ == "__main__":
    held_out, out, *models = sys.argv[1:]
    objective = geo.FunctionObjective(transcript_loss, batches_of(Path(held_out), models[0]))
    print(geo.soup(models, out, data=objective, sharpness="off"))
