"""What is no sum of a weight and a product, and what does not fit: refused, with a way out."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    IA3Config,
    LoHaConfig,
    PeftConfig,
    PeftModel,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file

import mergekit_geo as geo
from mergekit_geo import extras
from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.reference import open_checkpoint, open_checkpoints
from mergekit_geo.config.measures import Compute
from mergekit_geo.errors import (
    ArgumentError,
    FormatError,
    GeoError,
    IncompatibleError,
    NotFoundError,
    UnsupportedError,
)
from mergekit_geo.modules.load import quiet_transformers
from mergekit_geo.modules.open import open_module
from tests.checkpoints.adapter_models import (
    loaded,
    make_adapter,
    make_base,
    merged_by_peft,
    merged_here,
    rewrite,
)

WEIGHTS = "adapter_model.safetensors"
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, one that is tied, one that is wider, and an adapter of the first."""
    folder = tmp_path_factory.mktemp("models")
    make_base(folder / "base")
    make_base(folder / "tied", tie_word_embeddings=True)
    make_base(folder / "wide", hidden_size=16)
    make_adapter(folder / "base", folder / "adapter", target_modules=["q_proj"])
    return folder


@pytest.fixture
def adapter(models: Path, tmp_path: Path) -> Path:
    """A copy of the adapter, to be spoiled."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in (WEIGHTS, "adapter_config.json"):
        (folder / file).write_bytes((models / "adapter" / file).read_bytes())
    return folder


def other_kind(base: Path, folder: Path, config: PeftConfig) -> Path:
    """An adapter of another kind than LoRA."""
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(loaded(base), config)
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.3 * torch.randn(parameter.shape)
        model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("config", [IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
                                    LoHaConfig(target_modules=["q_proj"], r=2)],
                         ids=["IA3", "LOHA"])  # fmt: skip
def test_other_kinds_are_refused_with_a_command_that_works(
    config: PeftConfig, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = config.peft_type.value
    folder = other_kind(models / "base", tmp_path / kind, config)
    with pytest.raises(UnsupportedError, match=rf"{kind}: this is a {kind} adapter; LORA") as error:
        open_checkpoint(folder)
    _, _, code, *words = shlex.split(error.value.remedy.partition("result: ")[2])
    assert words == [str(models / "base"), str(folder), f"{kind}-merged"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["-c", *words])
    exec(code.rpartition("; ")[0], {})  # the tokenizer's part apart: this base has none
    merged = load_file(tmp_path / f"{kind}-merged" / "model.safetensors")
    expected = merged_by_peft(models / "base", folder).state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in merged.items())


def test_prompts_have_nothing_to_merge(models: Path, tmp_path: Path) -> None:
    config = PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    folder = other_kind(models / "base", tmp_path / "prompt", config)
    with pytest.raises(
        UnsupportedError, match=r"PROMPT_TUNING adapter adds inputs .* no weights to average"
    ):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("target_parameters", ["mlp.experts.gate_up_proj"]),
        ("layer_replication", [[0, 2], [1, 2]]),
        ("trainable_token_indices", [1, 2]),
        ("megatron_config", {"x": 1}),
        ("use_qalora", True),
        ("kasa_config", {"x": 1}),
        ("arrow_config", {"x": 1}),
        ("use_bdlora", {"x": 1}),
        ("monteclora_config", {"x": 1}),
        ("velora_config", {"x": 1}),
        ("a_setting_of_next_year", 3),
    ],
)
def test_settings_that_do_more_are_refused(setting: str, value: object, adapter: Path) -> None:
    rewrite(adapter / "adapter_config.json", **{setting: value})
    with pytest.raises(
        UnsupportedError, match=rf"the setting {setting} is not understood here .*merge it with"
    ):
        open_checkpoint(adapter)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga"])
def test_initialisations_that_change_the_base_are_refused(start: str, adapter: Path) -> None:
    rewrite(adapter / "adapter_config.json", init_lora_weights=start)
    with pytest.raises(UnsupportedError, match=rf"init_lora_weights is '{start}', which may"):
        open_checkpoint(adapter)


def test_activated_lora_cannot_be_merged(adapter: Path) -> None:
    rewrite(adapter / "adapter_config.json", alora_invocation_tokens=[1, 2])
    with pytest.raises(UnsupportedError, match=r"alora_invocation_tokens: .* cannot be merged"):
        open_checkpoint(adapter)


def test_the_remedy_says_how_to_get_peft(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(adapter / "adapter_config.json", peft_type="LOKR")
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"\(pip install 'mergekit_geo\[peft\]', then merge"):
        open_checkpoint(adapter)


TIES: dict[str, dict[str, Any]] = {
    "head": {"target_modules": ["lm_head"]},
    "embedding": {"target_modules": ["embed_tokens"]},
    "saved embedding": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "saved both": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
}


@pytest.mark.parametrize("case", TIES)
def test_tied_targets_are_refused(case: str, models: Path, tmp_path: Path) -> None:
    folder = make_adapter(models / "tied", tmp_path / "adapter", **TIES[case])
    with pytest.raises(
        UnsupportedError,
        match=r"it changes \S+, and \S+tied ties lm_head.weight to model.embed_tokens.weight: .*"
        r"\(untie the base first: .*tie_word_embeddings=False",
    ):
        open_checkpoint(folder)


@pytest.mark.parametrize("case", TIES)
def test_ties_that_training_kept_are_right(case: str, models: Path, tmp_path: Path) -> None:
    """peft merges a tied product twice, so the truth is the running adapter."""
    settings = {**TIES[case], "ensure_weight_tying": True}
    folder = make_adapter(models / "tied", tmp_path / "adapter", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        running = PeftModel.from_pretrained(loaded(models / "tied"), folder).eval()
    checkpoint = open_checkpoint(folder)
    assert checkpoint.tensors.keys() == open_checkpoint(models / "tied").tensors.keys()
    ids = torch.arange(10)[None]
    with torch.no_grad():
        found = open_module(checkpoint, Compute(device="cpu"))(input_ids=ids).logits
        torch.testing.assert_close(found, running(input_ids=ids).logits)


def test_ties_of_unknown_architectures_are_refused(models: Path, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    folder = make_adapter(base, tmp_path / "adapter", target_modules=["embed_tokens"])
    rewrite(base / "config.json", architectures=["OwnModel"], tie_word_embeddings=None)
    rewrite(base / "config.json", tie_word_embeddings=True)
    with pytest.raises(UnsupportedError, match=r"it changes model.embed_tokens.weight, and .*ties"):
        open_checkpoint(folder)


def test_an_adapter_of_another_size_is_told_before_anything_is_read(
    models: Path, adapter: Path
) -> None:
    checkpoint = open_checkpoint(f"{models / 'wide'}+{adapter}")
    with pytest.raises(
        IncompatibleError,
        match=r"2 problems:\n.*model.layers.0.self_attn.q_proj.weight is \[16, 16\] in \S+wide, "
        r"and \S+adapter changes \[8, 8\]: it was trained on another model",
    ):
        checkpoint.fetch()
    found = geo.check([models / "base", f"{models / 'wide'}+{adapter}"])
    assert not found.compatible
    assert len(found.measurements.problems) == 2


def test_tensors_that_match_nothing_are_named(models: Path, adapter: Path) -> None:
    rename(adapter, lambda name: name.replace("layers.1", "layers.7"))
    found = preflight([open_checkpoint(adapter)])
    assert found.problems == [
        f"model.layers.7.self_attn.q_proj.weight, which {adapter} changes, is not in "
        f"{models / 'base'}"
    ]


def test_one_tensor_under_two_names_is_told(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "gpt2")
    adapter = make_adapter(base, tmp_path / "adapter", target_modules=["attn.c_proj"])
    state = load_file(adapter / WEIGHTS)
    old = {name.replace("transformer.", ""): tensor.clone() for name, tensor in state.items()}
    save_file({**state, **old}, adapter / WEIGHTS)
    (problem,) = preflight([open_checkpoint(adapter)]).problems
    assert "changes transformer.h.0.attn.c_proj.weight twice, as " in problem


def test_a_resized_vocabulary_is_recognised(models: Path, adapter: Path) -> None:
    state = load_file(adapter / WEIGHTS)
    state["base_model.model.lm_head.weight"] = torch.ones(40, 8)
    save_file(state, adapter / WEIGHTS)
    (problem,) = preflight([open_checkpoint(adapter)]).problems
    assert problem.endswith(
        "lm_head.weight is [32, 8] in "
        f"{models / 'base'}, and {adapter} changes [40, 8]: was the vocabulary resized for "
        "training? Resize the base's and save it first"
    )


def test_a_rank_that_is_not_the_stated_one(adapter: Path) -> None:
    rewrite(adapter / "adapter_config.json", r=4)
    problems = preflight([open_checkpoint(adapter)]).problems
    assert len(problems) == 2
    assert "has rank 2, its configuration says 4" in problems[0]


def rename(adapter: Path, new: Callable[[str], str]) -> None:
    state = load_file(adapter / WEIGHTS)
    save_file({new(name): tensor for name, tensor in state.items()}, adapter / WEIGHTS)


def test_a_base_other_than_the_stated_one_is_warned_of(models: Path, adapter: Path) -> None:
    rewrite(adapter / "adapter_config.json", base_model_name_or_path="org/other")
    pair = f"{models / 'base'}+{adapter}"
    found = preflight([open_checkpoint(pair)])
    assert found.warnings == [
        f"{adapter} says that it was trained on org/other, and is used on {models / 'base'}"
    ]
    rewrite(adapter / "adapter_config.json", base_model_name_or_path="org/base")
    assert preflight([open_checkpoint(pair)]).warnings == []


def test_a_tokenizer_beside_the_adapter_is_compared(tmp_path: Path, adapter: Path) -> None:
    base = make_base(tmp_path / "base")
    for folder, vocabulary in ((base, {"a": 0, "b": 1}), (adapter, {"a": 0, "b": 1, "c": 2})):
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
    found = preflight([open_checkpoint(f"{base}+{adapter}")])
    assert found.problems == []
    assert found.warnings == []
    assert found.notes == [f"the tokenizer is that of {adapter}, not of its base (vocab.json)"]
    (adapter / "vocab.json").write_text(json.dumps({"a": 1, "b": 0}))
    (problem,) = preflight([open_checkpoint(f"{base}+{adapter}")]).problems
    assert problem.startswith("the tokenizers map tokens to other ids: 'a' is 0 and 1")


Spoil = Callable[[Path], object]


def drop(adapter: Path, end: str) -> None:
    state = load_file(adapter / WEIGHTS)
    save_file({n: t for n, t in state.items() if not n.endswith(end)}, adapter / WEIGHTS)


def put(adapter: Path, name: str, tensor: torch.Tensor) -> None:
    save_file({**load_file(adapter / WEIGHTS), name: tensor}, adapter / WEIGHTS)


UNSOUND: dict[str, tuple[Spoil, type[GeoError], str]] = {
    "pickled": (
        lambda a: (a / WEIGHTS).rename(a / "adapter_model.bin"),
        UnsupportedError,
        r"the adapter is pickled \(adapter_model.bin\), .*\(convert it if you trust it: python -c",
    ),
    "no weights": (
        lambda a: (a / WEIGHTS).unlink(),
        FormatError,
        r"an adapter without adapter_model.safetensors \(save it again with peft's save_pretrained",
    ),
    "no tensors": (lambda a: save_file({}, a / WEIGHTS), FormatError, "an adapter without tensors"),
    "truncated": (
        lambda a: (a / WEIGHTS).write_bytes((a / WEIGHTS).read_bytes()[:-3]),
        FormatError,
        "not a sound safetensors file",
    ),
    "no JSON": (
        lambda a: (a / "adapter_config.json").write_text("{"),
        FormatError,
        r"not a sound adapter_config.json: Expecting",
    ),
    "a list": (
        lambda a: (a / "adapter_config.json").write_text("[]"),
        FormatError,
        r"not a sound adapter_config.json: ",
    ),
    "rank 0": (
        lambda a: rewrite(a / "adapter_config.json", r=0),
        FormatError,
        r"not a sound adapter_config.json: r is 0",
    ),
    "pattern": (
        lambda a: rewrite(a / "adapter_config.json", alpha_pattern={"(": 1}),
        FormatError,
        r"adapter_config.json: alpha_pattern: '\(' is no regular expression: missing \)",
    ),
    "A without B": (
        lambda a: drop(a, "0.self_attn.q_proj.lora_B.weight"),
        FormatError,
        r"layers.0.self_attn.q_proj.weight: expected A and B, found \S+lora_A.weight$",
    ),
    "no magnitudes": (
        lambda a: rewrite(a / "adapter_config.json", use_dora=True),
        FormatError,
        r"expected A and B and magnitudes, found \S+lora_A.weight, \S+lora_B.weight$",
    ),
    "too few magnitudes": (
        lambda a: (
            rewrite(a / "adapter_config.json", use_dora=True),
            drop(a, "1.self_attn.q_proj.lora_A.weight"),
            drop(a, "1.self_attn.q_proj.lora_B.weight"),
            put(a, f"{Q_PROJ}.lora_magnitude_vector", torch.ones(3)),
        ),
        FormatError,
        r"q_proj.lora_magnitude_vector does not hold 8$",
    ),
    "no product": (
        lambda a: put(a, f"{Q_PROJ}.lora_B.weight", torch.ones(8, 3)),
        FormatError,
        r"q_proj.lora_B.weight is \[8, 3\] and \S+lora_A.weight is \[2, 8\]: they have no product",
    ),
    "foreign names": (
        lambda a: put(a, "transformer.h.0.weight", torch.ones(2)),
        FormatError,
        r"tensor 'transformer.h.0.weight': expected names that begin with base_model.model.",
    ),
    "unknown part": (
        lambda a: put(a, f"{Q_PROJ}.lora_diag", torch.ones(2)),
        UnsupportedError,
        r"tensor '\S+lora_diag' is not understood here \(.*merge it with peft",
    ),
    "both": (
        lambda a: save_file({"w": torch.ones(2)}, a / "model.safetensors"),
        UnsupportedError,
        r"a whole model \(model.safetensors\) and an adapter \(adapter_config.json\): which of",
    ),
    "no base": (
        lambda a: rewrite(a / "adapter_config.json", base_model_name_or_path=None),
        NotFoundError,
        r"the adapter does not say what its base is \(name the base yourself: BASE\+",
    ),
    "base gone": (
        lambda a: rewrite(a / "adapter_config.json", base_model_name_or_path="/gone/base"),
        NotFoundError,
        r"its base, /gone/base, cannot be found: no folder /gone/base.*yourself: BASE\+",
    ),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_unsound_adapters(case: str, adapter: Path) -> None:
    spoil, kind, message = UNSOUND[case]
    spoil(adapter)
    with pytest.raises(kind, match=message) as error:
        open_checkpoint(adapter)
    assert type(error.value) is kind
    assert str(adapter) in error.value.where


def test_the_conversion_of_a_pickle_works(
    models: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = merged_here(adapter)
    torch.save(load_file(adapter / WEIGHTS), adapter / "adapter_model.bin")
    (adapter / WEIGHTS).unlink()
    with pytest.raises(UnsupportedError, match="pickled") as error:
        open_checkpoint(adapter)
    _, _, code, folder = shlex.split(error.value.remedy.partition("it: ")[2])
    monkeypatch.setattr(sys, "argv", ["-c", folder])
    exec(code, {})
    found = merged_here(adapter)
    assert all(tensor.equal(expected[name]) for name, tensor in found.items())


def test_pairs_are_a_base_and_an_adapter(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    for pair, kind, message in (
        ("base+wide", UnsupportedError, r"wide: expected an adapter after the \+, found a whole"),
        ("adapter+adapter", UnsupportedError, r"expected a whole model as the base, found an"),
        ("base+adapter+adapter", ArgumentError, r"expected BASE\+ADAPTER, found 3 parts \(merge "
         r"one first: geo-merge soup base\+adapter -o DIR\)"),
        ("base+./nowhere", NotFoundError, r"^./nowhere: no folder \S+/nowhere, and not a Hub id"),
        ("./nowhere+adapter", NotFoundError, r"^./nowhere: no folder \S+/nowhere, and not a"),
        ("./no+where", NotFoundError, r"no folder \S+/no\+where, .*or BASE\+ADAPTER\)"),
    ):  # fmt: skip
        with pytest.raises(kind, match=message):
            open_checkpoint(pair)


def test_a_plus_in_a_folder_s_name_does_no_harm(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = make_base(tmp_path / "c++" / "base")
    adapter = make_adapter(base, tmp_path / "a+b", target_modules=["q_proj"])
    assert open_checkpoint("a+b").name == "a+b"
    whole, pair = open_checkpoints(["c++/base", "c++/base+a+b"])
    assert whole.tensors.keys() == pair.tensors.keys()
    assert pair.fingerprint() == [whole.fingerprint(), open_checkpoint(adapter).fingerprint()[1]]  # type: ignore[index]
