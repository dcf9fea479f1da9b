import errno
from itertools import pairwise

import pytest

from pregao.errors import (
    ForecastsUnavailable,
    InvalidDates,
    StorageError,
    StudyUnavailable,
    TrackingUnavailable,
    refusal,
)


@pytest.mark.parametrize("error", [ForecastsUnavailable, StudyUnavailable, TrackingUnavailable])
def test_no_part_of_a_password_is_in_a_sentence(error):
    sentence = str(error("postgresql://me:a@b/secret@host/name", "no route to postgresql://me:a@b/secret@host"))
    assert "secret" not in sentence
    assert "//…@host/name" in sentence


def raised(*errors):
    """The first error, whose cause is the second, and so on."""
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (raised(KeyError("x"), InvalidDates("start=x")), InvalidDates),
        (raised(InvalidDates("start=x"), OSError(errno.ENOSPC, "full")), InvalidDates),
        (raised(RuntimeError("x"), OSError(errno.ENOSPC, "full", "/a/file")), StorageError),
        (RuntimeError("write failed: No space left on device (os error 28)"), StorageError),
        (ConnectionRefusedError("MLflow's server"), TrackingUnavailable),
        (raised(RuntimeError("x"), ValueError("y")), None),
        (FileNotFoundError(errno.ENOENT, "no file", "/a/file"), None),
    ],
)
def test_the_first_known_error_among_the_causes_is_shown_to_the_user(error, found):
    assert type(refusal(error)) is (found or type(None))
