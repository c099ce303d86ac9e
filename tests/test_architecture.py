"""The house of docs/architecture.md: imports run down its floors, never in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

import mnist_jax

PACKAGE = Path(mnist_jax.__file__).parent
# From top to bottom; a room is a file or a folder of the package.
FLOORS = (
    ("__main__", "commands"),
    ("experiment", "demo", "configs"),
    ("report", "runs", "combine", "pretrained", "export"),
    ("training", "evaluation", "photos"),
    ("data", "models"),
    ("devices", "tree", "config"),
    ("console", "files", "errors"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imports_of(path):
    """The rooms that a file imports, wherever in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "mnist_jax":
            names = [f"mnist_jax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        rooms |= {name.split(".")[1] for name in names if name.startswith("mnist_jax.")}
    return rooms


@pytest.fixture(scope="module")
def graph():
    """Of each room, the others that it imports."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found.setdefault(room, set()).update(imports_of(path) - {room})
    del found["__init__"]
    return found


def test_every_room_has_a_floor(graph):
    assert graph.keys() == FLOOR_OF.keys()


def test_imports_run_down(graph):
    upwards = [
        f"{room} imports {other}"
        for room, others in graph.items()
        for other in others
        if FLOOR_OF[other] < FLOOR_OF[room]
    ]
    assert not upwards


def test_no_rooms_import_each_other(graph):
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError
