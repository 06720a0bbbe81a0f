"""Names that a folder can have."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["FOLDER_NAMES", "HOSTILE"]

HOSTILE = "a b$(touch MARK)`touch MARK`;\"'[0.1]{x}%j#\\é\n$HOME~*?&|<>!"

FOLDER_NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))
