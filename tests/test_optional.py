"""What is missing on a machine is skipped with the command that installs it, but not in CI."""

import pytest

from tests.optional import skip


def test_a_test_is_skipped_with_the_command_that_installs_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no PostgreSQL: apt-get install postgresql"):
        skip("PostgreSQL", "apt-get install postgresql")


def test_in_ci_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(
        pytest.fail.Exception, match=r"no Ray: pip install ray .*fails with CI=true"
    ):
        skip("Ray", "pip install ray")
