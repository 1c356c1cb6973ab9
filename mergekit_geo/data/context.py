"""How many tokens a model sees at once."""

from __future__ import annotations

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.errors import DataError

DEFAULT_CONTEXT = 512


def context_length(config: Config, asked: int | None) -> int:
    """Tokens in a window: what was asked for, else the model's context up to 512.

    Raises:
        DataError: More was asked for than the model can take.
    """
    most = config.get("max_position_embeddings") or config.get("n_positions")
    if asked is None:
        return min(DEFAULT_CONTEXT, most or DEFAULT_CONTEXT)
    if most is not None and asked > most:
        raise DataError(
            f"windows of {asked} tokens are longer than the model's context of {most}",
            remedy=f"--seq-len {most} or less",
        )
    return asked
