"""The house rules that the code itself must hold: who may import whom, and what an import may do."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import reelmill

ROOT = Path(reelmill.__file__).parent
PACKAGES = ("benchmarks", "engine", "kernels", "shards", "train")
MAY_IMPORT = {
    "shards": set(),
    "kernels": set(),
    "engine": {"shards", "console", "torchvision_ops"},
    "train": {"shards", "kernels", "engine", "console", "torchvision_ops"},
    "benchmarks": {"shards", "kernels", "engine", "train", "console"},
}
LOADER_FACE = {"Batch", "ClipLoader", "LoaderConfig", "as_webdataset"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports_from_root(path: Path) -> list[tuple[str, set[str]]]:
    """(name under the root, names taken) of every relative import that leaves the file's package."""
    depth = len(path.relative_to(ROOT).parts) - 1
    found: list[tuple[str, set[str]]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level > depth:
            assert node.level == depth + 1, f"{path}:{node.lineno} climbs out of the project"
            names = {alias.name for alias in node.names}
            if node.module is None:
                found += [(name, set()) for name in names]
            else:
                found.append((node.module, names))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_data_flows_one_way(package):
    for path in modules(package):
        for module, names in imports_from_root(path):
            target = module.split(".")[0]
            assert target in MAY_IMPORT[package] | {package}, f"{path} may not import {module}"
            if package == "train" and target == "engine":
                assert module == "engine", f"{path} may use only the loader face of engine, got {module}"
                assert names <= LOADER_FACE, f"{path} may use only the loader face of engine, got {names}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_project_is_imported_by_relative_imports_alone(package):
    for path in modules(package):
        for node in ast.walk(ast.parse(path.read_text())):
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not any(name.split(".")[0] == "reelmill" for name in named), path


def test_every_package_is_in_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}
    assert set(listed) == {"reelmill"} | {f"reelmill.{'.'.join(f.relative_to(ROOT).parts)}" for f in folders}


def test_nothing_is_pickled_or_given_to_a_shell():
    banned = ("import pickle", "shell=True", "os.system(", "allow_pickle=True", "weights_only=False")
    for package in PACKAGES:
        for path in modules(package):
            text = path.read_text()
            assert not [word for word in banned if word in text], path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("reelmill.shards.verify", "torch ray nvidia.dali av triton"),
        ("reelmill.engine", "torch ray nvidia.dali"),
        ("reelmill.engine.ingest", "torch nvidia.dali"),
        ("reelmill.engine.loading.loader", "ray triton"),
        ("reelmill.kernels", "ray nvidia.dali av"),
        ("reelmill.train", "ray"),
        ("reelmill.__main__", "torch ray nvidia.dali av"),
    ],
)
def test_an_import_brings_only_what_it_needs(module, absent):
    """In a process of its own: a Ray worker should not pay for torch, nor a help text for anything."""
    check = f"import sys, {module}; print(*[m for m in {absent.split()!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
