"""The house plan, read from the source: who may import what, and how long things may be."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_diffusion"

# A room is a module or folder of the package. It imports only from lower floors.
FLOORS = {
    "registry": -1,  # below all: even floor 0 looks names up
    "files": -1,
    "interruption": -1,
    "revision": -1,
    "prompts": 0,
    "schedules": 0,
    "process": 0,
    "grids": 1,
    "denoiser": 1,
    "samplers": 1,
    "arguments": 2,
    "batches": 2,
    "codecs": 2,
    "images": 2,
    "metrics": 2,
    "randomness": 2,
    "generation": 2,
    "model": 2,
    "autoencoder": 2,
    "evaluation": 3,
    "export": 3,
    "plotting": 3,
    "editing": 3,
    "checkpoints": 3,
    "callbacks": 4,
    "recording": 4,
    "scoring": 4,
    "trained": 4,
    "artist": 5,
    "build": 5,
    "evaluating": 5,
    "fitting": 5,
    "one_image": 5,
    "real": 5,
    "records": 5,
    "latent_run": 5,
    "starting": 5,
    "training": 5,
}
# Side rooms: what each may import, and the lowest floor that may import it.
SIDE = {
    "networks": ({"registry"}, 2),
    "distribution": ({"registry"}, 2),
    "precision": (set(), 2),
    "pretrained": (set(), 5),
    "data": ({"registry"}, 5),
    "rules": (set(), 5),
    "flags": (set(), 5),
    "config": ({"registry", "rules"}, 5),
    "configs": ({"registry", "config"}, 5),
}
# Importer: neighbours on its own floor that it may use, one way only.
SAME_FLOOR = {
    "autoencoder": {"batches", "codecs", "metrics", "randomness"},
    "generation": {"arguments", "codecs", "randomness"},
    "model": {"arguments", "batches", "codecs", "metrics", "randomness", "generation"},
    "one_image": {"build"},
    "scoring": {"callbacks"},
    "evaluating": {"artist", "real"},
    "fitting": {"one_image", "real"},
    "real": {"build"},
    "latent_run": {"build", "fitting", "records"},
    "starting": {"build"},
    "training": {"build", "fitting", "latent_run", "one_image", "real", "records", "starting"},
}

PURE = {room for room, floor in FLOORS.items() if floor <= 1} | {"networks"}
COMPILER = "networks/compiled.py"  # a network's only way to TensorFlow
ONLY_IN = {
    "keras_hub": "pretrained.py",
    "matplotlib": "plotting.py",
    "tensorflow_datasets": "data/sources.py",
}
SLOW_IMPORTS = {"tensorflow", "keras", "matplotlib"}
MAX_FILE_LINES = 320
LONGER = {"sample.py": 430}  # one file, so that it can be taken along with an export
MAX_FUNCTION_LINES = 45  # without the docstring

MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = [
    path for name in ("train.py", "sample.py", "evaluate.py") if (path := ROOT / name).exists()
]
STUDIES = sorted((ROOT / "studies").rglob("*.py"))
# What is loaded before a study has parsed its arguments.
QUICK = [path for path in STUDIES if path.name in ("__init__.py", "__main__.py", "command.py")]
OURS = (PACKAGE.name, "studies")


def name_of(path):
    return str(path.relative_to(ROOT))


every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)
every_study = pytest.mark.parametrize("path", STUDIES, ids=name_of)
every_script = pytest.mark.parametrize("path", SCRIPTS + QUICK, ids=name_of)
every_file = pytest.mark.parametrize("path", MODULES + SCRIPTS + STUDIES, ids=name_of)


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def nodes(tree, inside_functions):
    """All nodes of `tree`, or only those that run when it is imported."""
    for child in ast.iter_child_nodes(tree):
        yield child
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if inside_functions or not is_function:
            yield from nodes(child, inside_functions)


def imports(tree, inside_functions=True):
    """Dotted names that are imported; `from a import b` gives "a.b" if a is our package."""
    found = set()
    for node in nodes(tree, inside_functions):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: write it out in full"
            ours = node.module.split(".")[0] in OURS
            found.update(f"{node.module}.{a.name}" if ours else node.module for a in node.names)
    return found


def tops(names):
    return {name.split(".")[0] for name in names}


def room_of(path):
    """The room of a module; "" is the package's own __init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def rooms(names):
    """The rooms among imported names; "" for another name of the package's own __init__.py."""
    ours = names - {f"{PACKAGE.name}.__version__"}  # a constant, wherever it is needed
    parts = [name.split(".") for name in ours if name.split(".")[0] == PACKAGE.name]
    return {p[1] if len(p) > 1 and p[1] in {*FLOORS, *SIDE} else "" for p in parts}


def may_import(room):
    if room in SIDE:
        return SIDE[room][0] | {room}
    floor = FLOORS[room]
    lower = {other for other, its_floor in FLOORS.items() if its_floor < floor}
    side = {other for other, (_, lowest) in SIDE.items() if floor >= lowest}
    return lower | side | SAME_FLOOR.get(room, set()) | {room}


def on_import(path, seen):
    """Libraries that are loaded when `path` is, through modules of the package too."""
    seen.add(path)
    libraries = set()
    for name in imports(parse(path), inside_functions=False):
        parts = name.split(".")
        libraries.add(parts[0])
        if parts[0] not in OURS:
            continue
        for depth in range(1, len(parts) + 1):
            module = ROOT.joinpath(*parts[:depth])
            for file in (module / "__init__.py", module.with_suffix(".py")):
                if file.exists() and file not in seen:
                    libraries |= on_import(file, seen)
    return libraries


@every_module
def test_every_module_has_a_floor(path):
    room = room_of(path)
    assert room == "" or room in {*FLOORS, *SIDE}, (
        f"{name_of(path)} is new: add {room!r} to FLOORS (or SIDE) in tests/test_imports.py"
    )


@every_module
def test_a_room_imports_only_from_lower_floors(path):
    room = room_of(path)
    if room not in {*FLOORS, *SIDE}:
        pytest.skip("the package's own __init__.py, or a module without a floor")
    wrong = rooms(imports(parse(path))) - may_import(room)
    assert not wrong, f"{name_of(path)} must not import {sorted(wrong)}"


@every_module
def test_formulas_need_only_keras_and_numpy(path):
    if room_of(path) not in PURE or path == PACKAGE / COMPILER:
        pytest.skip("not on floor 0 or 1, not a network")
    allowed = {"keras", "numpy", PACKAGE.name, *sys.stdlib_module_names}
    wrong = tops(imports(parse(path))) - allowed
    assert not wrong, f"{name_of(path)} must not import {sorted(wrong)}"


@every_module
def test_heavy_libraries_stay_in_one_file(path):
    libraries = tops(imports(parse(path)))
    for library, home in ONLY_IN.items():
        if path != PACKAGE / home:
            assert library not in libraries, f"{library} is for {home}, not {name_of(path)}"


@every_module
def test_the_package_knows_no_study(path):
    assert "studies" not in tops(imports(parse(path)))


@every_study
def test_studies_draw_in_one_file(path):
    if path != ROOT / "studies" / "figures.py":
        assert "matplotlib" not in tops(imports(parse(path)))


@every_script
def test_scripts_answer_help_quickly(path):
    slow = on_import(path, seen=set()) & SLOW_IMPORTS
    assert not slow, f"{name_of(path)} loads {sorted(slow)} before it has parsed its arguments"


def test_sample_needs_no_package():
    path = ROOT / "sample.py"
    if not path.exists():
        pytest.skip("no sample.py yet")
    assert PACKAGE.name not in tops(imports(parse(path)))


@every_file
def test_files_and_functions_stay_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGER.get(name_of(path), MAX_FILE_LINES), f"{name_of(path)} has {lines} lines"
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{name_of(path)}: {node.name} has {lines} lines"
