"""What cards say of licences, and what free text in their place does."""

from pathlib import Path

import pytest

from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.checkpoints.stated_license import license_in, stated_license
from mergekit_geo.records.model import License
from tests.conftest import Save


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\n---\n# x", License(id="mit")),
        ("\ufeff---\r\nlicense: mit\r\n---\r\n", License(id="mit")),
        ("---\nlicense: [mit, apache-2.0]\n---\n", License(id="mit, apache-2.0")),
        ("---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\n---\n",
         License(id="other", name="mine", link="LICENSE")),
        ("---\nlicense: 3\nlicense_name: [x]\n---\n", None),
        ("---\nlicense: ''\n---\n", None),
        ("---\n- a\n---\n", None),
        ("---\nlicense: !!python/object/apply:os.system ['false']\n---\n", None),
        ("---\na: [" + "[" * 5000 + "\n---\n", None),
        ("# no front matter", None),
        ("---\nlicense: mit\n---\n" + "x" * (1 << 20), None),
    ],
    ids=["plain", "mark and returns", "list", "other", "number", "empty", "no mapping", "code",
         "deep", "none", "huge"],
)  # fmt: skip
def test_a_card_states_a_licence_or_none(
    card: str, expected: License | None, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert license_in(tmp_path) == expected


def test_a_folder_without_a_card_states_none(save: Save) -> None:
    assert stated_license(open_folder(save("a"))) is None
    assert stated_license(of_state({}, "in memory")) is None


def test_a_link_into_a_repository_is_spelt_out() -> None:
    page = "https://hub/org/a/blob/sha"
    assert License(id="other", name="x", link="LICENSE").linked_from(page).link == f"{page}/LICENSE"
    assert (
        License(id="other", name="x", link="https://x.org").linked_from(page).link
        == "https://x.org"
    )
    assert License(id="mit").linked_from(page) == License(id="mit")
