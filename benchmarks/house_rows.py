"""What is counted in the source, one function a row; each says what it counts."""

from __future__ import annotations

import ast
import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

from house_options import TOLD, UPPER, options
from house_source import (
    Definition,
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


@dataclass(frozen=True)
class Found:
    """A number, and what it counts.

    Attributes:
        value: The number.
        offenders: Where, a line each.
    """

    value: float
    offenders: list[str]


Row = Callable[[Package], Found]


def _sites(places: Iterator[Site]) -> Found:
    lines = [str(site) for site in places]
    return Found(len(lines), lines)


def options_repeated(package: Package) -> Found:
    """Options declared in more than one place (see house_options), the worst first."""
    many = {name: one for name, one in options(package).items() if one.times > 1}
    lines = []
    for name, one in sorted(many.items(), key=lambda pair: -pair[1].times):
        lines += [f"{name}: {one.times} places"] + [f"  {site}" for site in one.places.values()]
    return Found(len(many), lines)


def most_places(package: Package) -> Found:
    """Places of the option that is declared most often."""
    times = {name: one.times for name, one in options(package).items()}
    worst = sorted(times, key=lambda name: -times[name])[:6]
    return Found(max(times.values(), default=0), [f"{name}: {times[name]}" for name in worst])


def reports_made(package: Package) -> Found:
    """Calls of `Report(...)`, and of `cls(...)` in the class, that are not of an error."""
    return _sites(site for site, is_error in _report_calls(package) if not is_error)


def errors_told(package: Package) -> Found:
    """Calls of `Report(...)` with an error in it."""
    return _sites(site for site, is_error in _report_calls(package) if is_error)


def _report_calls(package: Package) -> Iterator[tuple[Site, bool]]:
    for module in package.modules:
        own = [one for one in module.all(ast.ClassDef) if one.name == "Report"]
        within = {id(call) for one in own for call in ast.walk(one) if called(call) == "cls"}
        for call in module.all(ast.Call):
            if called(call) == "Report" or id(call) in within:
                names = {word.arg for word in call.keywords}
                yield module.site(call, "Report(...)"), "error" in names


def result_classes(package: Package) -> Found:
    """Classes named Result, or something and Result."""
    return _sites(s for s, one in _classes(package) if one.name.endswith("Result"))


def _classes(package: Package) -> Iterator[tuple[Site, ast.ClassDef]]:
    for module in package.modules:
        for one in module.all(ast.ClassDef):
            yield module.site(one, f"class {one.name}"), one


def data_kinds(package: Package) -> Found:
    """`isinstance(.., EvalData)`, also among several classes, and `case EvalData()`.

    No number where no class has that name: then this row is to be told the new one.
    """
    found = _sites(
        module.site(node, "EvalData?")
        for module in package.modules
        for node in module.all(ast.Call, ast.MatchClass)
        if (called(node) == "isinstance" and "EvalData" in _names(node))
        or (isinstance(node, ast.MatchClass) and last_word(node.cls) == "EvalData")
    )
    there = any(one.name == "EvalData" for _, one in _classes(package))
    return found if there else Found(math.nan, [])


def _names(node: ast.AST) -> set[str]:
    return {last_word(one) for one in ast.walk(node)}


def writers(package: Package) -> Found:
    """Files that rename something into its place: `os.replace`, `Path.rename`, `renameat2`."""
    lines: dict[str, list[Site]] = defaultdict(list)
    for module in package.modules:
        for call in module.all(ast.Call):
            if _renames(call):
                lines[module.file].append(module.site(call, ast.unparse(call)))
    return Found(len(lines), [str(site) for sites in lines.values() for site in sites])


def _renames(call: ast.Call) -> bool:
    name, given = called(call), len(call.args)
    if name in ("renameat2", "rename", "renames", "move_file") or _is_of_os(call):
        return True
    return name == "replace" and isinstance(call.func, ast.Attribute) and given == 1


def _is_of_os(call: ast.Call) -> bool:
    """Whether this is `os.replace(...)` or `shutil.move(...)`."""
    func = call.func
    if not isinstance(func, ast.Attribute):
        return False
    return (last_word(func.value), func.attr) in {("os", "replace"), ("shutil", "move")}


def many_parameters(package: Package) -> Found:
    """Functions and methods of 8 or more parameters, without `self`, `*args` and `**kwargs`."""
    return _sites(
        module.site(one, f"{one.name}, {len(parameters(one))} parameters")
        for module in package.modules
        for one in module.functions()
        if len(parameters(one)) >= 8
    )


def lazy_imports(package: Package) -> Found:
    """Import statements inside functions, each once."""
    return _sites(
        module.site(node, ast.unparse(node))
        for module in package.modules
        for node in {
            id(one): one
            for function in module.functions()
            for one in ast.walk(function)
            if isinstance(one, ast.Import | ast.ImportFrom)
        }.values()
    )


def short_files(package: Package) -> Found:
    """Files of fewer than 60 lines, without `__init__` and `__main__`."""
    short = [
        f"{module.file}: {len(module.text.splitlines())} lines"
        for module in package.modules
        if len(module.text.splitlines()) < 60 and not module.stem.startswith("__")
    ]
    return Found(len(short), short)


def shared_names(package: Package) -> Found:
    """Names of classes, and of types at the top of a file, that mean several things.

    Every class is a thing of its own; types are the same where their definitions read alike.
    """
    places: dict[str, dict[str, Site]] = defaultdict(dict)
    for module in package.modules:
        for one in module.all(ast.ClassDef):
            places[one.name][f"{module.file}:{one.lineno}"] = module.site(one, f"class {one.name}")
        for name, line in _types(module):
            meaning = ast.unparse(line.value)
            places[name].setdefault(meaning, module.site(line, f"{name} = {meaning}"))
    many = {name: found for name, found in places.items() if len(found) > 1}
    return Found(len(many), [str(site) for n in sorted(many) for site in many[n].values()])


def _types(module: Module) -> Iterator[tuple[str, ast.Assign]]:
    for line in module.tree.body:
        if isinstance(line, ast.Assign) and called(line.value) not in ("TypeVar", "TypeAdapter"):
            for target in line.targets:
                if re.fullmatch(r"_?[A-Z]\w*[a-z]\w*", name := last_word(target)):
                    yield name, line


TWIN = re.compile(r"(Entry|Report|Record|Measurements)$")


def twins(package: Package) -> Found:
    """Record types told twice: X beside XEntry, XReport, XRecord or XMeasurements; or alike fields.

    Fields are alike where two dataclasses or models in different files, one of them in the rooms of
    records, share at least three names, and those are at least six tenths of all names of both.
    """
    kept = [(s, one, m) for m in package.modules for s, one in _records(m)]
    names = {one.name: site for site, one, _ in kept}
    found = {
        (stem, one.name): f"{names[stem]} | {site}"
        for site, one, _ in kept
        if (stem := TWIN.sub("", one.name)) != one.name and stem in names
    }
    for (here, a, first), (there, b, second) in combinations(kept, 2):
        apart = (first.room in TOLD) != (second.room in TOLD)
        if apart and _alike(set(fields_of(a)), set(fields_of(b))):
            found.setdefault((min(a.name, b.name), max(a.name, b.name)), f"{here} | {there}")
    return Found(len(found), sorted(found.values()))


def _records(module: Module) -> Iterator[tuple[Site, ast.ClassDef]]:
    for one in module.all(ast.ClassDef):
        if is_dataclass(one) or (one.bases and fields_of(one)):
            yield module.site(one, one.name), one


def _alike(a: set[str], b: set[str]) -> bool:
    both = len(a & b)
    return both >= 3 and both >= 0.6 * len(a | b)


TRACES = {"scatter", "bar", "heatmap", "surface", "contour", "scatter3d"}


def matplotlib_files(package: Package) -> Found:
    """Files that import matplotlib; a package of them is one."""
    return _drawing(package, lambda module: _imports(module, "matplotlib"))


def plotly_files(package: Package) -> Found:
    """Files that import plotly, or write its traces (`"type": "scatter"`); a package is one."""
    return _drawing(package, lambda module: _imports(module, "plotly") or _has_traces(module))


def _drawing(package: Package, draws: Callable[[Module], bool]) -> Found:
    files = [module.file for module in package.modules if draws(module)]
    whole = {_back_end(file) for file in files}
    return Found(len(whole), sorted(whole))


def _back_end(file: str) -> str:
    """The package of a file, if named after a library, as `matplotlib_`; else the file."""
    folder = file.rpartition("/")[0]
    return folder if folder.endswith("_") else file


def _imports(module: Module, library: str) -> bool:
    named = [alias.name for one in module.all(ast.Import) for alias in one.names]
    named += [one.module or "" for one in module.all(ast.ImportFrom) if not one.level]
    return any(name.partition(".")[0] == library for name in named)


def _has_traces(module: Module) -> bool:
    return any(
        isinstance(key, ast.Constant) and key.value == "type" and TRACES & set(texts_in(value))
        for table in module.all(ast.Dict)
        for key, value in zip(table.keys, table.values, strict=True)
    )


GLUE = (*UPPER, *TOLD, "specs", "outputs")


def glue_files(package: Package) -> Found:
    """Files that a command has for itself, the median over commands (see `_glue`)."""
    glue = _glue(package)
    lines = [f"{name}: {file}, {n} lines" for name in glue for file, n in glue[name].items()]
    return Found(statistics.median(map(len, glue.values())), lines)


def glue_lines(package: Package) -> Found:
    """Lines of code of those, the median over commands."""
    sums = {name: sum(found.values()) for name, found in _glue(package).items()}
    return Found(statistics.median(sums.values()), [f"{n}: {sums[n]} lines" for n in sums])


def _glue(package: Package) -> dict[str, dict[str, int]]:
    """Files and lines of code that are there for one command only, by their names.

    In the rooms of commands, recipes, reports, their views and the command line: a file named after
    the command, whole; elsewhere a function called as it, and classes whose name begins with it.
    A word in a name is all that is looked at, so this is an estimate, made alike before and after.
    """
    return {
        name: {m.file: n for m in package.in_rooms(*GLUE) if (n := _lines_for(name, m))}
        for name in commands(package)
    }


def _lines_for(command: str, module: Module) -> int:
    if command in re.split(r"_|(?<=\w)s$", module.stem):
        return len(module.code)
    own: list[Definition] = [
        one
        for one in module.tree.body
        if isinstance(one, Definition) and _is_for(one.name, command)
    ]
    return sum(map(module.code_of, own))


def _is_for(name: str, command: str) -> bool:
    return name.lstrip("_") == command or bool(re.match(rf"{command.title()}(?![a-z])", name))


def commands(package: Package) -> list[str]:
    """What tables called COMMANDS list: functions, words, or classes such as `SoupSpec`.

    A class may state the word as `command = "..."`; else it is the class's name in lower case.
    """
    stated = dict(_stated(package))
    found = []
    for module in package.modules:
        for one in module.tree.body:
            if isinstance(one, ast.Assign | ast.AnnAssign) and one.value is not None:
                targets = one.targets if isinstance(one, ast.Assign) else [one.target]
                if "COMMANDS" in map(last_word, targets):
                    found += _entries(one.value)
    return list(dict.fromkeys(stated.get(name, _plain(name)) for name in found))


def _plain(name: str) -> str:
    return name.removesuffix("Spec").lower()


def _stated(package: Package) -> Iterator[tuple[str, str]]:
    for module in package.modules:
        for one in module.all(ast.ClassDef):
            if text := next(texts_in(getattr(fields_of(one).get("command"), "value", None)), ""):
                yield one.name, text


def _entries(table: ast.expr) -> list[str]:
    rows = table.keys if isinstance(table, ast.Dict) else getattr(table, "elts", [])
    return [
        str(row.value) if isinstance(row, ast.Constant) else last_word(row or table) for row in rows
    ]


def recipe_methods(package: Package) -> Found:
    """Merge methods that no command has: by its name, or by a word of an enum.

    Methods are the keys of a dict METHODS that is written out, or else the first words of calls at
    the top of a file that make a `Method`. A command `merge` has all of them.
    """
    methods = dict(_keys_of_methods(package)) or dict(_made_methods(package))
    named = set(commands(package)) | {
        text
        for module in package.in_rooms("cli")
        for one in module.all(ast.ClassDef)
        if bases(one) & {"Enum", "StrEnum"}
        for text in texts_in(one)
    }
    named |= {"linear"} if "soup" in named else set()  # a weighted soup
    named |= {"karcher"} if "slerp" in named else set()  # slerp of three and more
    named |= {"along"} if "path" in named else set()  # soup --along
    left = [str(s) for name, s in methods.items() if "merge" not in named and name not in named]
    return Found(len(left) if methods else math.nan, left)


def _keys_of_methods(package: Package) -> Iterator[tuple[str, Site]]:
    for module in package.modules:
        for one in module.tree.body:
            if isinstance(one, ast.Assign | ast.AnnAssign) and isinstance(one.value, ast.Dict):
                target = one.targets[0] if isinstance(one, ast.Assign) else one.target
                for key in one.value.keys if last_word(target) == "METHODS" else ():
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        yield key.value, module.site(key, key.value)


def _made_methods(package: Package) -> Iterator[tuple[str, Site]]:
    functions = [one for module in package.modules for one in module.functions()]
    makers = {one.name for one in functions if last_word(one.returns or one) == "Method"}
    for module in package.modules:
        for line in module.tree.body:
            if isinstance(line, ast.Assign | ast.AnnAssign):
                for call in ast.walk(line):
                    if called(call) in {"Method", *makers}:
                        name = next(texts_in(call), "")
                        yield name, module.site(call, name)


def readme_lines(package: Package) -> Found:
    """Lines of README.md."""
    return Found(len((package.root / "README.md").read_text("utf-8").splitlines()), [])


def lines(package: Package) -> Found:
    """All lines of the package's Python files."""
    return Found(sum(len(m.text.splitlines()) for m in package.modules), _by_room(package, False))


def code_lines(package: Package) -> Found:
    """Those without docstrings, comments and blank lines."""
    return Found(sum(len(m.code) for m in package.modules), _by_room(package, True))


def _by_room(package: Package, code: bool) -> list[str]:
    sums: Counter[str] = Counter()
    for module in package.modules:
        sums[module.room or "."] += len(module.code if code else module.text.splitlines())
    return [f"{room}: {number}" for room, number in sums.most_common()]


def median_function(package: Package) -> Found:
    """Lines of code of a function, signature and inner functions included: the median."""
    return Found(statistics.median(n for n, _ in _lengths(package)), [])


def long_functions(package: Package) -> Found:
    """The same at the 90th percentile; longer ones than 40 lines are listed."""
    found = _lengths(package)
    worst = [str(site) for n, site in sorted(found, key=lambda p: -p[0]) if n > 40]
    return Found(statistics.quantiles([n for n, _ in found], n=10)[-1], worst)


def _lengths(package: Package) -> list[tuple[int, Site]]:
    return [
        (n := module.code_of(one), module.site(one, f"{one.name}, {n} lines of code"))
        for module in package.modules
        for one in module.functions()
    ]


EMPTY = re.compile(
    r"(Of|As|Those|Such|The same|Likewise|It|Its|Itself|That|Whose|So many|Nothing|Never"
    r"|In|By|On|Over|At|For|To|With|Without|Before|After|Between|Beside|Around"
    r"|Said|Made|Taken|Ignored)\b|What it (is|does)\b|The \w+'s\."
)


def empty_docstrings(package: Package) -> Found:
    """Docstrings whose first line leans on what is around it: `Of ...`, `The same ...`, `By ...`.

    Those of modules, classes and functions, and strings below a constant or a type.
    """
    return _sites(
        module.site(one, text.splitlines()[0])
        for module in package.modules
        for one in module.all(ast.Expr)
        if isinstance(one.value, ast.Constant)
        if isinstance(text := one.value.value, str) and EMPTY.match(text)
    )


FLOORS = (
    "errors progress processes config records clock limits printable units files", "views",
    "checkpoints|geometry", "outputs", "merging", "specs", "modules live", "data objectives",
    "tasks", "evaluation", "training|connectivity|curvature", "landscapes|selection",
    "commands workflows", "recipes", "cli",
)  # fmt: skip
"""From the ground up; rooms with `|` between them do not know each other. `live`, `objectives`,
`workflows` and `reports` (as views) are where they were before the redesign."""


def floors_broken(package: Package) -> Found:
    """Imports of the package that go up, or to a neighbour with `|`; lazy ones and types too."""
    levels = {
        room: (level, (level, place))
        for level, floor in enumerate(FLOORS)
        for place, rooms in enumerate(floor.split("|"))
        for room in rooms.split()
    }
    levels["reports"] = levels["views"]
    return _sites(
        module.site(one, f"{module.room or module.stem} imports {one.module}")
        for module in package.modules
        if (here := levels.get(module.room or module.stem))
        for one in module.all(ast.ImportFrom)
        if (parts := (one.module or "").split("."))[0] == package.name and len(parts) > 1
        if (there := levels.get(parts[1])) and (there[0] > here[0] or _strangers(here, there))
    )


def _strangers(here: tuple[int, tuple[int, int]], there: tuple[int, tuple[int, int]]) -> bool:
    return here[0] == there[0] and here[1] != there[1]
