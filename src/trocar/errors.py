"""The errors trocar raises: each says what came, what was expected and what to do."""

from __future__ import annotations


class TrocarError(Exception):
    """Base of every error raised on purpose; its text is one sentence for the reader."""


class InputError(TrocarError):
    """Something given from outside cannot be used: a file, a header, a point, a number."""


class NotPlannable(TrocarError):
    """A plan was asked for what cannot be planned, such as a case without a lesion."""


class FrameMismatch(InputError):
    """Two things that should lie in one space do not; the text names both frames."""
