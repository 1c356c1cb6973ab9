"""The one place that loads through other libraries: what it says to them, and what it refuses."""

import ast
import json
import shutil
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

import mergekit_geo
from mergekit_geo.checkpoints.loading import (
    harmless,
    load_config,
    load_image_processor,
    load_pretrained,
    load_tokenizer,
    own_class,
)
from mergekit_geo.config.data import EvalData
from mergekit_geo.data.datasets import hub_rows
from mergekit_geo.errors import (
    ArgumentError,
    CheckpointError,
    DataError,
    FormatError,
    UnsupportedError,
)
from tests.checkpoints.code_models import (
    OWN_MODEL,
    code_model,
    code_processor,
    code_tokenizer,
    write_code,
)

PACKAGE = Path(mergekit_geo.__file__).parent
PLACE = PACKAGE / "checkpoints" / "loading.py"
LOADERS = {
    "from_pretrained", "from_config", "for_model", "load_dataset", "load_dataset_builder",
    "get_class_from_dynamic_module", "pipeline", "load_adapter", "load_checkpoint_and_dispatch",
    "load_custom_generate", "get_kernel",
}  # fmt: skip
UNPICKLERS = {("torch", "load"), ("pickle", "load"), ("pickle", "loads"), ("joblib", "load")}


LIBRARIES = {"transformers", "datasets", "peft", "kernels"}


@cache
def tree(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


def calls(path: Path) -> list[tuple[str, str, ast.Call]]:
    """Receiver, name and node of every call in a file."""
    found = []
    for node in tree(path):
        if isinstance(node, ast.Call):
            owner = ast.unparse(getattr(node.func, "value", ast.Name("")))
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
            found.append((owner, name, node))
    return found


def imports(path: Path) -> set[str]:
    """What a file takes by name from libraries that load."""
    froms = [node for node in tree(path) if isinstance(node, ast.ImportFrom)]
    theirs = [node for node in froms if (node.module or "").split(".")[0] in LIBRARIES]
    return {alias.name for node in theirs for alias in node.names}


def test_no_other_place_has_libraries_load() -> None:
    others = [path for path in PACKAGE.rglob("*.py") if path != PLACE]
    assert len(others) > 200
    for path in others:
        for owner, name, _ in calls(path):
            ours = owner == "loading" or (owner == "" and name == "load_dataset")
            assert ours or name not in LOADERS, f"{path}: {owner}.{name}"
        assert not {n for n in imports(path) if n.startswith("Auto") or n in LOADERS}, path


def test_that_place_says_whom_it_trusts() -> None:
    for owner, name, node in calls(PLACE):
        if name in LOADERS - {"for_model", "get_class_from_dynamic_module"}:
            said = [keyword for keyword in node.keywords if keyword.arg == "trust_remote_code"]
            assert len(said) == 1, f"{owner}.{name}"


OWN = PACKAGE / "searches" / "engine.py"
"""Opens what a search sends to processes that it has started itself."""


def test_nothing_of_others_is_unpickled() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert path == OWN or not {(owner, name) for owner, name, _ in calls(path)} & UNPICKLERS, (
            path
        )


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


REFUSED = "comes with code of its own, which is not run unasked .*--trust-remote-code"


def test_code_of_tokenizer_and_image_processor(tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for kind in ("llama", "tiny_own"):
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
        with pytest.raises(UnsupportedError, match=f"m: the tokenizer {REFUSED}"):
            load_tokenizer(code_tokenizer(folder, mark))
        with pytest.raises(UnsupportedError, match=f"m: the image processor {REFUSED}"):
            load_image_processor(code_processor(folder, mark))
    (folder / "tokenizer_config.json").write_text('{"auto_map": ["tokenization_own.X", null]}')
    with pytest.raises(UnsupportedError, match=f"m: the tokenizer {REFUSED}"):
        load_tokenizer(folder)
    assert not mark.exists()


@pytest.mark.parametrize("trusted", [False, True])
def test_code_in_a_folder_below_is_not_asked_about(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    """RagTokenizer loads two tokenizers, and says of neither whether its code is trusted."""
    parts = {"question_encoder": {"model_type": "vit"}, "generator": {"model_type": "bart"}}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rag", **parts}))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "RagTokenizer"}')
    below = tmp_path / "question_encoder_tokenizer"
    below.mkdir()
    code_tokenizer(below, mark)
    monkeypatch.setattr("builtins.input", lambda question: "y")
    refused = "transformers cannot load the tokenizer" if trusted else f"the tokenizer {REFUSED}"
    with pytest.raises(CheckpointError, match=refused):
        load_tokenizer(tmp_path, trusted=trusted)
    assert not mark.exists()


def test_code_of_configuration_or_module_alone(tmp_path: Path, mark: Path) -> None:
    folder = code_model(tmp_path / "m", mark, 0)
    with pytest.raises(UnsupportedError, match=f"the name: the model {REFUSED}"):
        load_pretrained(folder, "the name", trusted=False)
    known = {**OWN_MODEL, "model_type": "llama", "hidden_size": 16, "num_attention_heads": 2}
    known["auto_map"] = {"AutoModelForCausalLM": "modeling_tiny.TinyLM"}
    (folder / "config.json").write_text(json.dumps(known))
    with pytest.raises(UnsupportedError, match=f"the name: the model {REFUSED}"):
        load_pretrained(folder, "the name", trusted=False)
    assert not mark.exists()


def test_a_class_of_transformers_own_needs_no_trust(
    tmp_path: Path, mark: Path, family: Path
) -> None:
    """As where code that a model once brought has become transformers' own."""
    folder = tmp_path / "m"
    shutil.copytree(family / "base", folder)
    path = folder / "tokenizer_config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "auto_map": {"AutoTokenizer": ["own.T", None]}}))
    write_code(folder / "own.py", mark, "T = None\n")
    assert load_tokenizer(folder).get_vocab() == load_tokenizer(family / "base").get_vocab()
    assert not mark.exists()


def test_a_dataset_of_code_is_never_run(tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    write_code(folder / "rows.py", mark, "import datasets\n")
    with pytest.raises(DataError, match=r"a loading script.*--trust-remote-code is for mod"):
        hub_rows(EvalData(source=str(folder)))
    assert not mark.exists()


def test_what_transformers_cannot_load_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nosuch", "architectures": ["X"]}')
    with pytest.raises(FormatError, match="m: transformers cannot load the model: ValueError: The"):
        load_pretrained(tmp_path, "m", trusted=True)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(FormatError, match="transformers cannot load the tokenizer") as failed:
        load_tokenizer(tmp_path)
    assert "\n" not in str(failed.value)
    (tmp_path / "preprocessor_config.json").write_text("[]")
    with pytest.raises(FormatError, match=r"not a sound preprocessor_config\.json: expec"):
        load_image_processor(tmp_path)


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_sentence_piece_model_without_the_library_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    with pytest.raises(ArgumentError, match=r"tokenizer.model needs sentencepiece.*pip install"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"IQ== 0\n")
    with pytest.raises(FormatError, match=r"cannot load the tokenizer.*tiktoken"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "pipeline", "AutoModel", "Trainer", 5, None])
def test_only_models_are_architectures(name: object) -> None:
    assert own_class(name) is (LlamaForCausalLM if name == "LlamaForCausalLM" else None)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("value", ["someone/kernel@main:own", {"text_config": "someone/kernel"}])
def test_a_configuration_names_no_code_to_be_downloaded(key: str, value: object) -> None:
    config = {"model_type": "llama", "vocab_size": 8, key: value, "part": [{key: value}]}
    assert harmless(config) == {"model_type": "llama", "vocab_size": 8, "part": [{}]}
    assert harmless(config, trusted=True) == config
    assert harmless({key: "eager"}) == {key: "eager"}
    found = load_config(config)
    assert isinstance(found, LlamaConfig)
    assert found._attn_implementation is None
