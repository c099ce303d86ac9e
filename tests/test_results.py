"""The published tables say what the published runs say."""

import pytest

from mnist_jax.commands.compare import ordered
from mnist_jax.report import comparison
from mnist_jax.report.comparison import publish
from mnist_jax.report.comparison.runs import find
from tests.conftest import ROOT


@pytest.mark.parametrize("document", ["README.md", "docs/results.md"])
def test_documents_hold_the_tables_of_the_published_runs(document, tmp_path):
    """If this fails: `make results`."""
    copy = tmp_path / "copy.md"
    copy.write_text((ROOT / document).read_text())
    found = comparison.read([ROOT / "results"])
    publish.insert(ordered(found, "name"), copy)
    assert (ROOT / document).read_text() == copy.read_text()


def test_published_runs_are_clean_and_lie_where_their_config_and_seed_say():
    finished, unfinished = find(ROOT / "results")
    assert finished and not unfinished
    found = comparison.read([ROOT / "results"])
    for group in found.groups:
        for run in group.runs:
            place = ROOT / "results" / run.name / f"seed{run.seed}"
            assert run.folder.resolve() == place.resolve()
            # Made from a commit, not from what lay around at the time.
            assert not run.environment["git_commit"].endswith("-dirty")
    assert not found.notes
