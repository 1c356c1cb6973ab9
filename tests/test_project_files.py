"""The files by which a project lives on its host parse, and name what there is."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.check_release import versions

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPT = re.compile(r"\b(scripts/[\w.-]+|\.ci/\w+)")
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", ".github/PULL_REQUEST_TEMPLATE.md")


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"].values()
    return [step for job in jobs for step in job.get("steps", [job])]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_scripts_that_exist(workflow: Path) -> None:
    for step in steps(workflow):
        if "run" in step:
            (script,) = SCRIPT.findall(step["run"])
            assert (ROOT / script).is_file(), step["run"]
            assert "\n" not in step["run"].strip(), "what it does belongs into the script"
        elif step["uses"].startswith("./"):
            assert (ROOT / step["uses"]).is_file()
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"])


def test_workflows_run_every_python_that_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    stated = [text.split(" :: ")[-1] for text in project["project"]["classifiers"] if "3." in text]
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))["jobs"]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == stated
    wheels = project["tool"]["cibuildwheel"]["build"].split()
    assert wheels == [f"cp{python.replace('.', '')}-*" for python in stated]
    assert project["project"]["requires-python"] == f">={stated[0]}"


def test_postgres_and_ray_are_there_wherever_all_tests_run() -> None:
    called = [step.get("run") for step in steps(ROOT / ".github/workflows/tests.yml")]
    assert called[-2:] == ["bash scripts/postgres.sh", "bash scripts/test.sh"]
    own = (ROOT / ".ci/run").read_text("utf-8")
    assert (
        own.index("scripts/postgres.sh")
        < own.index("export CI=true")
        < own.index("scripts/test.sh")
    )
    assert "[all]" in (ROOT / "scripts/setup.sh").read_text("utf-8")


@pytest.mark.parametrize("file", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")))
def test_an_issue_form_has_what_its_host_needs(file: Path) -> None:
    form = yaml.safe_load(file.read_text("utf-8"))
    if file.stem != "config":
        assert {"name", "description", "body"} <= set(form)
        asked = [part for part in form["body"] if part["type"] != "markdown"]
        assert len({part["id"] for part in asked}) == len(asked)
        assert all(part["attributes"]["label"] for part in asked)


def test_the_citation_is_whole_and_invents_nobody() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["authors"] == [{"name": "mergekit_geo contributors"}]
    assert not {"doi", "url", "repository-code"} & set(citation)


def test_hooks_call_tools_that_are_installed() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert local["repo"] == "local"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    development = [one for one in project["dependency-groups"]["dev"] if isinstance(one, str)]
    for hook in local["hooks"]:
        tool = hook["entry"].split()[0]
        assert hook["language"] == "pygrep" or any(each.startswith(tool) for each in development)


@pytest.mark.parametrize("page", PAGES)
def test_links_and_scripts_of_a_page_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    for path in {*links, *SCRIPT.findall(text)}:
        assert (ROOT / page).parent.joinpath(path).exists() or (ROOT / path).exists(), path


def test_the_version_is_the_same_everywhere() -> None:
    found = versions()
    found.pop("CHANGELOG.md")  # names the newest release, which may be an earlier one
    assert len(set(found.values())) == 1, found


def test_a_tag_of_another_version_is_refused() -> None:
    command = [sys.executable, ROOT / "scripts" / "check_release.py", "v0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pyproject.toml: expected the version of the tag v0.0.0, found " in done.stderr
