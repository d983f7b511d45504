"""Imports point one way, and the cheap things stay cheap. Read from the syntax trees alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nvc

PACKAGE = Path(nvc.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

#: What each part may import from the package besides itself and the two leaves.
LEAVES = {"errors", "version"}
CODERS = {"video", "entropy", "bitstream"}
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "device": set(),
    "files": set(),
    "video": set(),
    "entropy": set(),
    "bitstream": set(),
    "schedule": set(),
    "nn": CODERS,
    "weights": set(),
    "predictive": {"nn", "weights", "schedule", *CODERS},
    "inr": {"nn", "weights", "schedule", *CODERS},
    "data": {"nn", "predictive", *CODERS},
    "evaluation": {"nn", "predictive", "inr", "schedule", "device", *CODERS},
    "codecs": {"predictive", "inr", *CODERS},
    "stream": {"codecs", *CODERS},
    "player": {"stream", "device", *CODERS},
    "tracks": {"stream", "codecs", "files", *CODERS},
    "api": {"stream", "player", "tracks", "codecs", "device", "files", *CODERS},
    "serve": {*("stream", "codecs", "evaluation", "predictive", "inr", "weights"), *CODERS},
    "commands": {
        *("api", "player", "stream", "codecs", "device", "files", "evaluation"),
        *("schedule", "weights", "serve"),
        *("predictive", "inr", "data"),
        *CODERS,
    },
    "cli": {"commands", "device"},
    "__main__": {"cli"},
    "__init__": {"api", "player", "video"},
}


def part(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def imported(module: Path) -> set[str]:
    """Absolute dotted names a file imports anywhere in it, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ["nvc", *module.parts[:-1]]
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, node.module] if node.module else base
            names |= {".".join([*base, alias.name]) for alias in node.names}
    return names


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_one_way(module: Path) -> None:
    own = part(module)
    assert own in BELOW, f"{module}: say in this test where the new part stands"
    allowed = {own, *LEAVES, *BELOW[own]}
    names = (name.split(".") for name in imported(module) if name.split(".")[0] == "nvc")
    used = {name[1] for name in names if len(name) > 1 and part_exists(name[1])}
    assert used <= allowed, f"{module} imports {sorted(used - allowed)}"


def part_exists(name: str) -> bool:
    """Whether nvc.NAME is a module rather than something defined in nvc/__init__.py."""
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_the_video_package_imports_av(module: Path) -> None:
    uses_av = any(name.split(".")[0] == "av" for name in imported(module))
    assert not uses_av or part(module) == "video"


def test_codecs_do_not_import_lightning() -> None:
    """Not in codec.py, nor in what it imports at module level, the registry and the player."""
    code = (
        "import sys, nvc.inr.codec, nvc.codecs, nvc.stream, nvc.player\n"
        "sys.exit(any(name.split('.')[0] in ('lightning', 'pytorch_lightning')"
        " for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    for module in MODULES:
        if module.name == "codec.py":
            assert not any(name.startswith("lightning") for name in imported(module)), module


def test_importing_nvc_imports_nothing_heavy() -> None:
    code = (
        "import sys, nvc, nvc.cli; nvc.cli.build_parser()\n"
        "sys.exit(bool({'torch', 'numpy', 'av', 'numba', 'lightning'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_unsafe_is_called() -> None:
    """No pickle, eval, exec, shell=True, nor torch.load without weights_only=True.

    exec of nothing is what undoes a mark of CPython (nvc.cli).
    """
    for module in MODULES:
        for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
            where = f"{module}:{node.lineno}"
            unsafe = name in {"eval", "exec", "os.system"} and ast.unparse(node) != "exec('')"
            assert not unsafe, where
            assert keywords.get("shell") != "True", where
            if name == "torch.load":
                assert keywords.get("weights_only") == "True", where
        assert not {"pickle", "dill", "marshal"} & {n.split(".")[0] for n in imported(module)}
