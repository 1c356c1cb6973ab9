"""The chat template that a recipe asks for."""

from __future__ import annotations

from mergekit_geo.errors import RecipeError

TEMPLATES = {
    "chatml": "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
}
"""Templates by name."""


def chat_template(said: str | None) -> str | None:
    """The template's text; None leaves the donor's as it is.

    Raises:
        RecipeError: Neither a name that is known nor a template.

    Example:
        >>> chat_template("auto") is None, chat_template("{{ messages }}")
        (True, '{{ messages }}')
    """
    if said is None or said == "auto":
        return None
    if "{" in said:
        return said
    if said not in TEMPLATES:
        known = ", ".join(["auto", *TEMPLATES])
        raise RecipeError(
            f"no chat template {said!r}",
            where="chat_template",
            remedy=f"expected {known}, or the Jinja text itself",
        )
    return TEMPLATES[said]
