import json
import time

import pytest

from pregao.config import SourceChoices
from pregao.dashboard.state import training_jobs
from pregao.tracking import registry
from pregao.training.compose import models, train_config
from pregao.training.jobs import Jobs
from tests.dashboard.conftest import metrics, text_of
from tests.training.test_jobs import LONG, SMALL

START, CANCEL = "Train", "Cancel"


def button(app, label):
    return next(one for one in app.button if one.label == label)


def field(fields, label):
    return next(one for one in fields if one.label == label)


def until(app, condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition(app.run()):
        assert time.monotonic() < end, text_of(app)
        time.sleep(0.2)


@pytest.fixture
def begin(home, vale3, stocks):
    """A training that was started elsewhere on this machine."""
    made = Jobs()

    def started(overrides, start="2015-01-01"):
        config = train_config(vale3, start, None, SourceChoices(name="csv", path=stocks), overrides)
        with made.lock() as lock:
            return made.start(lock, config)

    yield started
    made.cancel_own("The test is over.")


@pytest.fixture(autouse=True)
def no_training_is_left(home):
    yield
    training_jobs().cancel_own("The test is over.")


def test_before_the_first_training_the_page_offers_one_with_the_usual_choices(open_page):
    app = open_page("train")
    assert "No training was started here yet" in text_of(app)
    usual = {field.label: field.value for field in app.number_input}
    assert (usual["Hidden size"], usual["Maximum epochs"], usual["Seed"]) == (40, 10, 6544)
    assert str(app.date_input[0].value) == "2020-01-01"


def test_each_model_of_conf_has_a_field_for_each_of_its_choices(open_page):
    app = open_page("train")
    chosen = field(app.selectbox, "Model")
    assert (chosen.options, chosen.value) == (list(models()), "lstm")
    layers = field(app.number_input, "Layers")
    assert (layers.min, layers.max, layers.value) == (1, 8, 1)
    assert field(app.selectbox, "Recurrent cell").options == ["lstm", "gru"]
    assert field(app.number_input, "Fraction of the median").value == 0.25
    chosen.set_value("absolute").run()
    assert field(app.number_input, "Layers").value == 2
    assert "Fraction of the median" not in [one.label for one in app.number_input]


def test_the_chosen_model_is_trained_with_what_the_fields_hold(open_page):
    app = open_page("train")
    field(app.selectbox, "Model").set_value("absolute").run()
    field(app.selectbox, "Recurrent cell").set_value("gru")
    field(app.number_input, "Layers").set_value(3)
    button(app, START).click().run()
    [job] = Jobs().all()
    model = json.loads((Jobs().folder / job.id / "config.json").read_text())["model"]
    assert (model["_target_"], model["cell"]) == ("pregao.models.absolute.AbsoluteModel", "gru")
    assert (model["num_layers"], model["hidden_size"]) == (3, 40)


def test_a_value_on_a_bound_that_is_excluded_is_a_sentence(open_page):
    app = open_page("train")
    field(app.number_input, "Dropout").set_value(1.0)
    button(app, START).click().run()
    assert "model.dropout=1.0: should be less than 1" in text_of(app).replace("\\", "")
    assert Jobs().all() == []


def test_a_sample_is_trained_on_the_days_that_it_has(open_page):
    app = open_page("train", "source=auto", stock="SP500")
    assert [str(field.value) for field in app.date_input] == ["2009-01-01", "2018-12-31"]


def test_dates_that_are_none_are_a_sentence(open_page):
    app = open_page("train")
    app.date_input[0].set_value(None)
    button(app, START).click().run()
    assert "is not a date" in text_of(app)
    assert Jobs().all() == []


@pytest.mark.slow
def test_a_training_is_started_watched_and_served(open_page, vale3):
    app = open_page("train")
    app.date_input[0].set_value("2023-06-01")
    field(app.number_input, "Hidden size").set_value(4)
    field(app.number_input, "Maximum epochs").set_value(2)
    button(app, START).click().run()
    assert "Training VALE3" in app.subheader[0].value
    until(app, lambda page: not [one for one in page.button if one.label == CANCEL])
    assert registry.champion(vale3).model.card.network["hidden_size"] == 4
    # The training's own process knows the shipped models, and has registered one of VALE3 before.
    assert f"Version {registry.champion(vale3).version} is served now." in text_of(app)
    assert metrics(app)["MAPE"].endswith(" %")


@pytest.mark.slow
def test_a_second_tab_sees_the_training_and_can_cancel_it(open_page, begin):
    job = begin(LONG)
    app = open_page("train", language="pt")
    assert app.subheader[0].value == "Treinando VALE3"
    button(app, "Cancelar").click().run()
    assert Jobs().read(job.id).state == "cancelled"
    until(app, lambda page: "cancelado" in text_of(page))


def test_the_losses_of_a_training_are_shown_while_it_runs(open_page, begin):
    job = begin(LONG)
    end = time.monotonic() + 60
    while Jobs().read(job.id).epoch < 1:
        assert time.monotonic() < end
        time.sleep(0.1)
    shown = metrics(open_page("train"))
    assert float(shown["training loss"]) > 0
    assert float(shown["validation loss"]) > 0


def test_two_tabs_that_start_at_once_start_one_training(open_page, begin):
    first, second = open_page("train"), open_page("train")
    with training_jobs().lock():  # the first one's, which is about to start
        button(second, START).click().run()
        assert "only one is allowed" in text_of(second)
    begin(LONG)
    for tab in (first, second):
        button(tab, START).click().run()
        assert tab.subheader[0].value == "Training VALE3"
    assert len(Jobs().all()) == 1


@pytest.mark.slow
def test_a_training_that_was_refused_says_why(open_page, begin):
    job = begin(SMALL, start="2024-12-01")
    end = time.monotonic() + 60
    while not Jobs().read(job.id).ended:
        assert time.monotonic() < end
        time.sleep(0.1)
    app = open_page("train", language="pt")
    assert "Há poucos pregões neste período." in text_of(app)
    assert "are needed" in text_of(app)
