"""The only place that has other libraries load what a checkpoint or a dataset names.

transformers runs code that comes with a checkpoint where `trust_remote_code` is true, and asks on
the terminal where it is None. Here it is always said, and is False unless the user trusts it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedTokenizerBase
from transformers import dynamic_module_utils as code
from transformers.utils.import_utils import is_torchvision_available

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.checkpoints.configuration import without_other_files
from mergekit_geo.errors import ArgumentError, FormatError, GeoError, UnsupportedError
from mergekit_geo.files.regular import read_bytes
from mergekit_geo.files.sound_json import read_json

REMEDY = "read that code; where you trust it, --trust-remote-code runs it"

TOKENIZER, IMAGE_PROCESSOR = "tokenizer_config.json", "preprocessor_config.json"
PROCESSOR = "processor_config.json"

SENTENCE_PIECE, PROTOBUF = ("*.model", "*.spm"), b"\n"

OF_PROCESSORS = (
    (PROCESSOR, "AutoProcessor", "processor_class"),
    (IMAGE_PROCESSOR, "AutoProcessor", "processor_class"),
    (IMAGE_PROCESSOR, "AutoImageProcessor", "image_processor_type"),
    (TOKENIZER, "AutoProcessor", "processor_class"),
    (TOKENIZER, "AutoTokenizer", "tokenizer_class"),
)
"""Files that can declare code of a processor or of its parts, and the key of a class without."""

KERNELS = ("attn_implementation", "experts_implementation")
"""Keys whose value can name a repository of compiled code on the Hub, with or without a `_`."""


def load_config(config: Config) -> Any:
    """A configuration of one of transformers' own classes; no code of a checkpoint is run.

    Raises:
        ValueError: transformers knows no such model type.
    """
    return transformers.AutoConfig.for_model(**harmless(config))


def load_tokenizer(folder: Path, *, trusted: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder.

    Args:
        folder: Of a checkpoint.
        trusted: Whether code that lies there may run.

    Raises:
        UnsupportedError: It needs code that is not trusted.
        FormatError: transformers cannot load it.
        ArgumentError: It is a SentencePiece model, and that library is not installed.
    """
    declared = (TOKENIZER, "AutoTokenizer", "tokenizer_class")
    try:
        found: PreTrainedTokenizerBase = _load("the tokenizer", folder, *declared, trusted=trusted)
    except FormatError as error:  # where that is missing, transformers asks for tiktoken
        if find_spec("sentencepiece") or not (model := _sentence_piece_model(folder)):
            raise
        raise ArgumentError(
            f"{model} needs sentencepiece, which is not installed",
            where=str(folder),
            remedy="pip install sentencepiece",
        ) from error
    return found


def _sentence_piece_model(folder: Path) -> str:
    """The name of a SentencePiece model; empty where there is none. Those of tiktoken are text."""
    found = (path for end in SENTENCE_PIECE for path in sorted(folder.glob(end)))
    return next((path.name for path in found if read_bytes(path)[:1] == PROTOBUF), "")


def load_image_processor(folder: Path, *, trusted: bool = False) -> Any:
    """The image processor in a folder.

    Args:
        folder: Of a checkpoint.
        trusted: Whether code that lies there may run.

    Raises:
        UnsupportedError: It needs code that is not trusted.
        FormatError: transformers cannot load it.
    """
    declared = (IMAGE_PROCESSOR, "AutoImageProcessor", "image_processor_type")
    return _load("the image processor", folder, *declared, trusted=trusted)


def load_processor(folder: Path, *, trusted: bool = False) -> Any:
    """The processor of text and images in a folder.

    Without torchvision the parts that process videos cannot be loaded: then it has none of them.

    Args:
        folder: Of a checkpoint.
        trusted: Whether code that lies there may run.

    Raises:
        UnsupportedError: It needs code that is not trusted.
        FormatError: transformers cannot load it.
    """
    what = "the processor"
    with _told(what, folder, trusted=trusted):
        declares = (_declares_code(folder / file, *keys) for file, *keys in OF_PROCESSORS)
        if not trusted and any(declares):
            raise _untrusted(what, str(folder))
        try:
            auto: Any = transformers.AutoProcessor
            return auto.from_pretrained(folder, trust_remote_code=trusted)
        except ImportError:
            if is_torchvision_available() or (found := _without_videos(folder)) is None:
                raise
            return found


def _without_videos(folder: Path) -> Any:
    """A processor whose class wants a processor of videos, without one; None for any other."""
    stated = [read_json(path) for file in (PROCESSOR, IMAGE_PROCESSOR, TOKENIZER)
              if (path := folder / file).is_file()]  # fmt: skip
    name = next((str(one["processor_class"]) for one in stated if one.get("processor_class")), "")
    kind = getattr(transformers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.ProcessorMixin)):
        return None
    if "video_processor" not in inspect.signature(kind.__init__).parameters:
        return None
    # the check of a processor's parts fails on a missing one where its class cannot be imported
    own = {"check_argument_for_proper_class": lambda *_: None, "__module__": kind.__module__}
    images, words = load_image_processor(folder), load_tokenizer(folder)
    return type(name, (kind,), own)(images, words, None)


def _load(what: str, folder: Path, file: str, auto: str, key: str, *, trusted: bool) -> Any:
    """What a class of transformers makes of a folder, where `key` of a file names its own class."""
    with _told(what, folder, trusted=trusted):
        if not trusted and _declares_code(folder / file, auto, key):
            raise _untrusted(what, str(folder))
        return getattr(transformers, auto).from_pretrained(folder, trust_remote_code=trusted)


def load_pretrained(
    staged: Path, where: str, *, trusted: bool, state: dict[str, Any] | None = None, **options: Any
) -> Any:
    """A model of the class that its configuration names.

    Args:
        staged: A folder with the configuration, and with those weights alone that may be loaded.
        where: What the user calls it.
        trusted: Whether code that lies there may run.
        state: The weights, where they are in memory.
        options: Of `from_pretrained`.

    Raises:
        UnsupportedError: It needs code that is not trusted.
        FormatError: transformers cannot load it.
    """
    with _told("the model", staged, where, trusted=trusted):
        config = transformers.AutoConfig.from_pretrained(staged, trust_remote_code=trusted)
        architecture = own_class(_architecture(config))
        if architecture is None:
            architecture = _foreign_class(config, staged, where, trusted=trusted)
            options["config"] = config
        if state is None:
            options["use_safetensors"] = True
        else:
            options |= {"state_dict": state, "config": options.get("config", str(staged))}
        return architecture.from_pretrained(
            staged if state is None else None, trust_remote_code=trusted, **options
        )


def load_dataset(origin: str, config: str | None) -> Any:
    """A dataset on the Hub; code that comes with it is not run, whoever is trusted.

    Raises:
        Exception: What datasets raises.
    """
    import datasets  # for data alone

    return datasets.load_dataset(origin, config, trust_remote_code=False)


def own_class(name: object) -> Any:
    """The class of an architecture in transformers; None where it has none of that name."""
    found = getattr(transformers, name, None) if isinstance(name, str) else None
    is_model = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    return found if is_model else None


def harmless(config: Any, *, trusted: bool = False) -> Any:
    """Remove from a configuration what would load other files, or code.

    Args:
        config: The parsed `config.json`, or a part of it.
        trusted: Whether code may run.

    Example:
        >>> harmless({"vocab_size": 8, "attn_implementation": "someone/kernel"})
        {'vocab_size': 8}
    """
    if isinstance(config, list):
        return [harmless(one, trusted=trusted) for one in config]
    if not isinstance(config, dict):
        return config
    return {
        key: harmless(value, trusted=trusted)
        for key, value in without_other_files(config).items()
        if trusted or str(key).strip("_") not in KERNELS or "/" not in str(value)
    }


def _declares_code(file: Path, auto: str, key: str) -> bool:
    """Whether a class of code is declared and none of transformers' own.

    transformers would then take one of its own that goes with the kind of model, and say nothing.
    """
    found = read_json(file) if file.exists() else {}
    places, name = found.get("auto_map") or {}, str(found.get(key) or "")
    declared = isinstance(places, list) or auto in places  # a list is a tokenizer's, of old
    return declared and not any(hasattr(transformers, own) for own in (name, f"{name}Fast"))


def _architecture(config: Any) -> Any:
    return (config.architectures or [""])[0]


def _foreign_class(config: Any, staged: Path, where: str, *, trusted: bool) -> Any:
    """The class of a checkpoint's own code; where it has none, what its kind of model is for."""
    name = _architecture(config)
    places = (getattr(config, "auto_map", None) or {}).values()
    found = [place for place in places if str(place).rpartition(".")[2] == name]
    if not found:
        return transformers.AutoModelForCausalLM
    if not trusted:
        raise _untrusted("the model", where)
    return code.get_class_from_dynamic_module(found[0], staged)


def _untrusted(what: str, where: str) -> UnsupportedError:
    return UnsupportedError(
        f"{what} comes with code of its own, which is not run unasked", where=where, remedy=REMEDY
    )


@contextmanager
def _unasked() -> Iterator[None]:
    """Refuse code in subfolders, too, which transformers would ask about.

    Classes that load subfolders do not pass on whether code is trusted, and would prompt for it.
    """
    before, code.TIME_OUT_REMOTE_CODE = code.TIME_OUT_REMOTE_CODE, 0
    try:
        yield
    finally:
        code.TIME_OUT_REMOTE_CODE = before


@contextmanager
def _told(what: str, folder: Path, where: str = "", *, trusted: bool) -> Iterator[None]:
    """Let transformers ask no questions, and turn what it raises into errors of one line."""
    try:
        with _unasked():
            yield
    except (GeoError, MemoryError):
        raise
    except Exception as error:  # its converters, and a model's own code, raise anything
        if type(error).__name__ == "OutOfMemoryError":
            raise
        name, text = where or str(folder), str(error).strip()
        if not trusted and "trust_remote_code" in text:
            raise _untrusted(what, name) from error
        line = next(iter(text.splitlines()), "").replace(str(folder), name)
        raise FormatError(
            f"transformers cannot load {what}: {type(error).__name__}: {line}", where=name
        ) from error
