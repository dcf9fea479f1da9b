import json
import time

import pytest

from pregao.config import SourceChoices
from pregao.dashboard.sentences import SUMMARIES
from pregao.dashboard.state import training_jobs
from pregao.tracking import registry
from pregao.training.checked import CheckedTraining
from pregao.training.compose import train_config
from pregao.training.jobs import Jobs
from pregao.training.model_choices import offered
from tests.dashboard.conftest import metrics, text_of

LONG = {"model.hidden_size": 4, "trainer.max_epochs": 1000, "trainer.patience": 1000}


def labelled(elements, label):
    return next(element for element in elements if element.label == label)


def press(app, label="Train"):
    return labelled(app.button, label).click().run()


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def no_training_is_left(home):
    yield
    for jobs in training_jobs(), Jobs():
        jobs.cancel_own("The test is over.")


def test_each_model_has_fields_for_its_choices_and_is_trained_with_their_values(open_page):
    app = open_page("train")
    model = labelled(app.selectbox, "Model")
    assert (model.options, model.value) == (offered(), "lstm")
    layers = labelled(app.number_input, "Layers")
    assert (layers.min, layers.max, layers.value) == (1, 8, 1)
    assert labelled(app.number_input, "Fraction of the median").value == 0.1
    model.set_value("absolute").run()
    assert labelled(app.number_input, "Layers").value == 2
    assert "Fraction of the median" not in [field.label for field in app.number_input]
    labelled(app.selectbox, "Recurrent cell").set_value("gru")
    labelled(app.number_input, "Layers").set_value(3)
    press(app)
    [job] = Jobs().all()
    chosen = json.loads((Jobs().folder / job.id / "config.json").read_text())["model"]
    assert (chosen["_target_"], chosen["cell"]) == ("pregao.models.absolute.AbsoluteModel", "gru")
    assert (chosen["num_layers"], chosen["hidden_size"]) == (3, 40)


def test_invalid_choices_or_dates_are_refused_and_start_no_training(open_page):
    app = open_page("train", language="pt")
    labelled(app.number_input, "Dropout").set_value(1.0)  # the excluded bound
    assert SUMMARIES["InvalidChoice"] in text_of(press(app, "Treinar"))
    app.date_input[0].set_value(None)
    assert SUMMARIES["InvalidDates"] in text_of(press(app, "Treinar"))
    assert Jobs().all() == []


@pytest.mark.slow
def test_a_running_training_is_shown_in_two_tabs_and_cancelled_in_one(open_page, vale3, stocks):
    first, second = open_page("train", language="pt"), open_page("train", language="pt")
    config = train_config(vale3, "2015-01-01", None, SourceChoices(name="csv", path=stocks), LONG)
    with training_jobs().lock() as lock:  # a third tab starts a training
        assert SUMMARIES["TrainingRuns"] in text_of(press(second, "Treinar"))
        job = training_jobs().start(lock, CheckedTraining.of(config))
    for tab in (first, second):
        assert press(tab, "Treinar").subheader[0].value == "Treinando VALE3"
    assert len(Jobs().all()) == 1
    until(lambda: Jobs().read(job.id).epoch >= 1)
    assert {"perda no treino", "perda na validação"} <= metrics(first.run()).keys()
    assert "–" not in metrics(first).values()
    press(second, "Cancelar")
    assert Jobs().read(job.id).state == "cancelled"
    assert "cancelado" in text_of(first.run())


@pytest.mark.slow
def test_a_training_of_the_form_is_refused_with_its_reason_or_served(open_page, vale3):
    app = open_page("train")
    for start, shown in ("2024-12-01", "are needed"), ("2023-06-01", "is served now"):
        app.date_input[0].set_value(start)
        labelled(app.number_input, "Hidden size").set_value(4)
        labelled(app.number_input, "Maximum epochs").set_value(2)
        press(app)
        until(lambda: "Cancel" not in [button.label for button in app.run().button])
        assert shown in text_of(app)
    served = registry.champion(vale3)
    assert served.model.card.network["hidden_size"] == 4
    assert metrics(app)["MAPE"] == f"{served.model.card.metrics['final_mape']:.3f} %"
