"""In how many places each option of the command line is declared.

An option is what a call of `option`, `Option` or the like declares, on a parameter, a dataclass
field or an alias of a type. Its places are the lines that state its default, type, text or choices:

- that call; where it makes an alias, every default given beside the alias too
- a field with a default of a settings dataclass (public, or with a field that is an option, or
  named Spec, Config, Settings, Arguments), of a `TypedDict`, or of a mapping of the recipe
  - but for those that state nothing: of a group of options, taken over from where it is declared
    (`like`), a `ClassVar`, or a key of the recipe that holds a mapping of further keys
  - nor is an option what a result tells (named Result, Summary) or a file of another tool
    (`checkpoints`)
- a parameter with a default of a public function or constructor, or of a function of the rooms
  where commands are put together (`UPPER`)
- a key of a dict called settings, and a flag spelt out by hand in a list
- the same choices in a further enum, tuple or `Literal`, those of records (`TOLD`) aside

Names are compared as flags spell them; where the command line hands an option on by another name,
as in `learning_rate=lr`, that name counts as well, but for keys of a recipe. `out` and `models` are
arguments of every function. Options of one name and unlike texts are several options, which share
the places evenly.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from house_source import (
    Module,
    Package,
    Site,
    bases,
    called,
    fields_of,
    is_dataclass,
    last_word,
    parameters,
    texts_in,
)

UPPER = ("cli", "recipes", "commands", "workflows")
TOLD = ("records", "reports", "views")
SETTINGS = ("Spec", "Config", "Settings", "Arguments")
RESULTS = ("Result", "Summary")
REFERRED = ("group", "like")
FOREIGN = ("checkpoints",)
ARGUMENTS = {"out", "models"}


@dataclass
class Option:
    """An option of the command line.

    Attributes:
        texts: What the help says of it; several are several options.
        places: Where it is declared.
        choices: The words that it takes, where they are few.
    """

    texts: set[str] = field(default_factory=set)
    places: dict[tuple[str, int], Site] = field(default_factory=dict)
    choices: set[frozenset[str]] = field(default_factory=set)

    def add(self, site: Site) -> None:
        """One more place; a line counts once."""
        self.places.setdefault((site.file, site.line), site)

    @property
    def times(self) -> int:
        """Places for each option of the name, rounded up."""
        return -(-len(self.places) // max(1, len(self.texts)))


def options(package: Package) -> dict[str, Option]:
    """Every option by its flag, without dashes in front, words joined by `_`."""
    found, names = _declared(package)
    names |= _handed_on(package, names)
    for module in package.modules:
        for name, site in _restated(module, package.exported):
            if name in names:
                found[names[name]].add(site)
        for name, site in _in_recipes(module):
            if name in found:
                found[name].add(site)
    _add_choices(package, found)
    return {name: one for name, one in found.items() if name not in ARGUMENTS}


def _add_choices(package: Package, found: dict[str, Option]) -> None:
    """All lists of an option's words but the one that it is declared with."""
    written = _word_lists(package)
    for one in found.values():
        for words in one.choices:
            apart = [site for site in written[words] if (site.file, site.line) not in one.places]
            for site in apart[1:]:
                one.add(site)


def _option_call(node: ast.AST | None) -> ast.Call | None:
    """The call below a node that declares an option."""
    for one in ast.walk(node) if node is not None else ():
        if isinstance(one, ast.Call) and called(one).strip("_").lower() == "option":
            return one
    return None


def _flag(call: ast.Call, name: str) -> str:
    said = [text for text in texts_in(call) if text.startswith("--")]
    return (said[0].split("/")[0][2:] if said else name).replace("-", "_")


def _text(call: ast.Call) -> str:
    named = [k.value for k in call.keywords if k.arg in ("help", "text")]
    placed = [a for a in call.args if not next(texts_in(a), "--").startswith("-")]
    return next(("".join(texts_in(one)) for one in [*named, *placed]), "")


Declaration = tuple[str, ast.AST, ast.expr | None, ast.expr | None]
"""Name, node, annotation and default of a parameter, field or alias."""


def _declarations(module: Module) -> Iterator[Declaration]:
    for one in module.all(ast.AnnAssign):
        if isinstance(one.target, ast.Name):
            yield one.target.id, one, one.annotation, one.value
    for function in module.functions():
        for given, default in parameters(function):
            yield given.arg, given, given.annotation, default


def _aliases(package: Package) -> dict[str, tuple[ast.Call, Site, ast.expr]]:
    """Types that carry an option, by name."""
    return {
        target.id: (call, module.site(one, f"{target.id}, a type with an option"), one.value)
        for module in package.modules
        for one in module.tree.body
        if isinstance(one, ast.Assign) and (call := _option_call(one.value))
        for target in one.targets
        if isinstance(target, ast.Name)
    }


def _declared(package: Package) -> tuple[dict[str, Option], dict[str, str]]:
    """Options, and the flags of the names that declare them."""
    aliases, enums = _aliases(package), _enums(package)
    found: dict[str, Option] = defaultdict(Option)
    names: dict[str, str] = {}
    for module in package.modules:
        for name, node, annotation, default in _declarations(module):
            call, type_, place = _option_call(annotation) or _option_call(default), annotation, None
            if call is None and (alias := aliases.get(last_word(annotation or node))):
                call, place, type_ = alias
            if call is None:
                continue
            flag = names[name] = _flag(call, name)
            option = found[flag.removeprefix("no_")]
            names[name] = flag.removeprefix("no_")
            option.texts.add(_text(call))
            option.choices |= _choices(type_, enums) | _choices(call, enums)
            if place is not None:
                option.add(place)
            if place is None or default is not None:
                option.add(module.site(node, f"option --{flag.replace('_', '-')}"))
    return found, names | {flag: flag for flag in found}


def _handed_on(package: Package, names: dict[str, str]) -> dict[str, str]:
    """Other names of options: the `b` of `b=a` where the command line calls something."""
    return {
        word.arg: names[given.pop()]
        for module in package.in_rooms("cli")
        for word in module.all(ast.keyword)
        if word.arg and word.arg not in names
        if len(given := {last_word(n) for n in ast.walk(word.value)} & names.keys()) == 1
    }


def _restated(module: Module, exported: frozenset[str]) -> Iterator[tuple[str, Site]]:
    yield from _in_classes(module, exported)
    yield from _in_signatures(module, exported)
    if module.room in UPPER:
        yield from _in_settings(module)
        yield from _in_flags(module)


def _in_classes(module: Module, exported: frozenset[str]) -> Iterator[tuple[str, Site]]:
    for one in module.all(ast.ClassDef):
        typed = "TypedDict" in bases(one)
        settings = is_dataclass(one) and _are_settings(one, module.room, exported)
        for name, given in fields_of(one).items() if typed or settings else ():
            if typed or (given.value is not None and _states(given)):
                yield name, module.site(given, f"field of {one.name}")


def _are_settings(one: ast.ClassDef, room: str, exported: frozenset[str]) -> bool:
    public = one.name in exported and not one.name.endswith(RESULTS)
    named = one.name.endswith(SETTINGS) and room not in FOREIGN
    return public or named or _option_call(one) is not None


def _states(given: ast.AnnAssign) -> bool:
    """Whether a field states something of its own, and is not seen to be an option already."""
    is_constant = last_word(given.annotation) == "ClassVar"
    refers = called(given.value or given) in REFERRED
    return _option_call(given) is None and not is_constant and not refers


def _in_recipes(module: Module) -> Iterator[tuple[str, Site]]:
    """Keys are spelt as flags are."""
    if module.room == "recipes":
        for one in module.all(ast.ClassDef):
            for name, given in fields_of(one).items() if one.bases else ():
                if given.value is not None and not _holds_keys(given):
                    yield name, module.site(given, f"key of {one.name}")


def _holds_keys(given: ast.AnnAssign) -> bool:
    """Whether a key of the recipe holds a mapping with keys of its own, such as `along`."""
    return any(last_word(one).endswith("Keys") for one in ast.walk(given.annotation))


def _in_signatures(module: Module, exported: frozenset[str]) -> Iterator[tuple[str, Site]]:
    constructors = {
        id(function): one.name
        for one in module.all(ast.ClassDef)
        for function in one.body
        if one.name in exported and getattr(function, "name", "") == "__init__"
    }
    for function in module.functions():
        public = function.name in exported or id(function) in constructors
        if public or module.room in UPPER:
            where = constructors.get(id(function), function.name)
            for given, default in parameters(function):
                if default is not None:
                    yield given.arg, module.site(given, f"parameter of {where}")


def _in_settings(module: Module) -> Iterator[tuple[str, Site]]:
    named = [(t, one.value) for one in module.all(ast.Assign) for t in one.targets]
    found = [value for target, value in named if "settings" in last_word(target)]
    found += [word.value for word in module.all(ast.keyword) if "settings" in (word.arg or "")]
    for table in found:
        for one in ast.walk(table):
            for key in one.keys if isinstance(one, ast.Dict) else ():
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value, module.site(key, "key of settings")


def _in_flags(module: Module) -> Iterator[tuple[str, Site]]:
    for row in module.all(ast.List):
        for one in row.elts:
            said = next(texts_in(one), "") if isinstance(one, ast.Constant | ast.JoinedStr) else ""
            if said.startswith("--"):
                name = said[2:].partition("=")[0].replace("-", "_").removeprefix("no_")
                yield name, module.site(one, "flag spelt out")


def _enums(package: Package) -> dict[str, frozenset[str]]:
    return {
        one.name: frozenset(_member_words(one))
        for module in package.modules
        for one in module.all(ast.ClassDef)
        if bases(one) & {"Enum", "StrEnum"}
    }


def _member_words(one: ast.ClassDef) -> Iterator[str]:
    for line in one.body:
        if isinstance(line, ast.Assign):
            yield from texts_in(line.value)


def _choices(node: ast.AST | None, enums: dict[str, frozenset[str]]) -> set[frozenset[str]]:
    """Lists of words below a node: of an enum, a `Literal` or a tuple."""
    found = set()
    for one in ast.walk(node) if node is not None else ():
        words = enums.get(one.id) if isinstance(one, ast.Name) else _words(one)
        if words and len(words) > 1:
            found.add(words)
    return found


def _words(node: ast.AST) -> frozenset[str] | None:
    """The words of a tuple, list or set of nothing but words."""
    if not isinstance(node, ast.Tuple | ast.List | ast.Set) or len(node.elts) < 2:
        return None
    texts = [one.value for one in node.elts if isinstance(one, ast.Constant)]
    words = [text for text in texts if isinstance(text, str)]
    return frozenset(words) if len(words) == len(node.elts) else None


def _word_lists(package: Package) -> dict[frozenset[str], list[Site]]:
    """Where words are listed, by the words."""
    found: dict[frozenset[str], list[Site]] = defaultdict(list)
    for module in package.modules:
        if module.room in TOLD:
            continue
        for row in module.all(ast.Tuple, ast.List, ast.Set):
            if words := _words(row):
                found[words].append(module.site(row, "its choices"))
        for one in module.all(ast.ClassDef):
            if bases(one) & {"Enum", "StrEnum"}:
                found[frozenset(_member_words(one))].append(module.site(one, "its choices"))
    return found
