"""The example on Whisper, on the tones of a telephone's keys (DTMF, ITU-T Q.23)."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from scipy.io import wavfile

import mergekit_geo as geo
from examples.whisper import batches_of, transcript_loss
from tests.conftest import ROOT
from tests.tasks.tiny import make_tokenizer

NAME = "whisper"
ROWS, COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477)
KEYS = ("123", "456", "789", "*0#")
RATE = 8000
SIZES = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_mel_bins": 8,
    "max_source_positions": 50, "max_target_positions": 16,
}  # fmt: skip


def dialled(keys: str) -> np.ndarray:
    """Each key for a tenth of a second, then as long a silence, as 16-bit samples."""
    time = np.arange(RATE // 10) / RATE
    parts = []
    for key in keys:
        row = next(i for i, line in enumerate(KEYS) if key in line)
        tones = ROWS[row], COLUMNS[KEYS[row].index(key)]
        wave = sum(np.sin(2 * np.pi * tone * time) for tone in tones) / 2
        parts += [wave, np.zeros_like(time)]
    return (np.concatenate(parts) * 32767).astype(np.int16)


def save_model(folder: Path, seed: int) -> Path:
    words = make_tokenizer()
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=len(words), pad_token_id=0, bos_token_id=2, eos_token_id=3,
        decoder_start_token_id=2, suppress_tokens=None, begin_suppress_tokens=None, **SIZES,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    hears = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    hears.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_whisper_models_are_measured_on_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (str(save_model(tmp_path / name, seed)) for seed, name in enumerate("ab"))
    numbers = [f"{n * 7919 % 1000:03}" for n in range(1, 13)]
    for number in numbers:
        wavfile.write(tmp_path / f"{number}.wav", RATE, dialled(number))
    lines = [json.dumps({"audio": f"{n}.wav", "text": " ".join(n)}) for n in numbers]
    (tmp_path / "held-out.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out"
    script = str((ROOT / "examples" / NAME).with_suffix(".py"))
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path / "held-out.jsonl"), str(out), a, b])
    runpy.run_path(script, run_name="__main__")
    assert "output" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    model = transformers.WhisperForConditionalGeneration.from_pretrained(out).eval()
    batches = batches_of(tmp_path / "held-out.jsonl", a)
    total, count = 0.0, 0
    for batch in batches:
        labels = batch["labels"][:, 1:]
        with torch.no_grad():
            loss = model(input_features=batch["input_features"], labels=labels).loss
        total, count = (
            total + float(loss) * int((labels != -100).sum()),
            count + int((labels != -100).sum()),
        )
    assert report["result"]["losses"][-1]["loss"] == pytest.approx(total / count, abs=1e-5)
    assert geo.FunctionObjective(transcript_loss, batches).measure(model).score is not None
