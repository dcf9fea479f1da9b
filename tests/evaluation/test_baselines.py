import numpy as np
import pytest

from pregao.evaluation.baselines import drift, last_close, mean_return

INPUTS = np.array([[1.0, 2.0, 4.0], [9.0, 9.0, 9.0]])


def test_last_close_repeats_itself():
    assert last_close(INPUTS, 3).tolist() == [[4, 4, 4], [9, 9, 9]]


def test_drift_goes_on_as_the_window_did():
    assert drift(INPUTS, 2) == pytest.approx(np.array([[8, 16], [9, 9]]))


def test_mean_return_grows_by_the_training_parts_mean():
    assert mean_return(INPUTS, 2, np.log(1.1)) == pytest.approx(np.array([[4.4, 4.84], [9.9, 10.89]]))
