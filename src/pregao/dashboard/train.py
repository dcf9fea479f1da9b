"""Train: choose, start, watch, cancel, and see the result; one training at a time on this machine."""

from datetime import UTC, date, datetime
from typing import Any

import streamlit as st

from pregao.dashboard import refusals
from pregao.dashboard.choices import model_fields, places
from pregao.dashboard.language import day_format, help_of_choice, name_of_choice, number, say
from pregao.dashboard.refusals import guarded
from pregao.dashboard.state import EARLIEST, configuration, the_jobs, training_defaults
from pregao.dashboard.stocks import choose_stock
from pregao.dashboard.tables import figures
from pregao.prices.dates import parse_dates
from pregao.prices.symbols import SAMPLES, Symbol
from pregao.training.compose import models, train_config
from pregao.training.config import TrainConfig
from pregao.training.job import Job
from pregao.training.overrides import usual_model

SHOWN = 10
"""Trainings in the list of past ones."""


def main() -> None:
    """The page."""
    st.title(say("train.title"))
    st.caption(say("train.about"))
    running = the_jobs().running()
    if running is not None:
        _watch(running.id)
    else:
        with guarded():
            _form(choose_stock())
    _past(running)


def _form(symbol: Symbol) -> None:
    names = list(models())
    model = st.selectbox(say("train.model"), names, names.index(usual_model(training_defaults(symbol))))
    usual = training_defaults(symbol, model)
    with st.form(f"training of {symbol}", enter_to_submit=False):
        start, end = _dates(usual)
        overrides = {"model": model, **model_fields(model, usual.model), **_training_fields(usual)}
        pressed = st.form_submit_button(say("train.start"), type="primary", icon=":material/play_arrow:")
    if pressed:
        _start(symbol, start, end, overrides)
        st.rerun()


def _dates(usual: TrainConfig) -> tuple[date | None, date | None]:
    left, right = st.columns(2)
    today = datetime.now(UTC).date()
    start = left.date_input(
        say("train.from"), date.fromisoformat(usual.start), min_value=EARLIEST, max_value=today, format=day_format()
    )
    end = right.date_input(
        say("train.to"),
        None if usual.end is None else date.fromisoformat(usual.end),
        min_value=EARLIEST,
        max_value=today,
        format=day_format(),
        help=say("train.to.help"),
    )
    return start, end


def _training_fields(usual: TrainConfig) -> dict[str, Any]:
    """Under Hydra's names; what they begin with is conf/'s."""
    place = places()
    return {
        "trainer.max_epochs": next(place).number_input(
            *(name_of_choice("max_epochs"), 1, 1000, usual.trainer.max_epochs), help=help_of_choice("max_epochs")
        ),
        "optimizer.learning_rate": next(place).number_input(
            name_of_choice("learning_rate"), 1e-6, 1.0, usual.optimizer.learning_rate, step=1e-4, format="%.6f"
        ),
        "data.batch_size": next(place).number_input(name_of_choice("batch_size"), 1, 4096, usual.data.batch_size),
        "seed": next(place).number_input(name_of_choice("seed"), 0, 2**32 - 1, usual.seed, help=help_of_choice("seed")),
    }


def _start(symbol: Symbol, start: date | None, end: date | None, overrides: dict[str, Any]) -> None:
    parse_dates(start or "", end)
    source = configuration().source
    if symbol.ticker in SAMPLES:
        overrides = {"experiment": "quickstart"} | overrides
    with the_jobs().lock() as lock:
        config = train_config(symbol, str(start), None if end is None else str(end), source, overrides)
        the_jobs().start(lock, config)


@st.fragment(run_every=1.0)
def _watch(id: str) -> None:
    """Drawn alone each second; when the training has ended, the whole page."""
    with guarded():
        job = the_jobs().read(id)
        if job.ended:
            st.rerun()
        st.subheader(say("train.running", stock=job.stock))
        st.progress(job.progress, say(f"state.{job.state}", epoch=job.epoch, epochs=job.epochs or "?"))
        left, right = st.columns(2)
        left.metric(say("train_loss"), number(job.train_loss, 4))
        right.metric(say("val_loss"), number(job.val_loss, 4))
        if st.button(say("train.cancel"), icon=":material/stop:", key=f"cancel {id}"):
            with st.spinner(say("train.cancelling")):
                the_jobs().cancel(id, say("train.cancelled_here"))
            st.rerun()


def _past(running: Job | None) -> None:
    """What became of the trainings before."""
    ended = [job for job in the_jobs().all() if job.ended][:SHOWN]
    if not ended and running is None:
        st.info(say("train.nothing"), icon=":material/info:")
    if not ended:
        return
    st.subheader(say("train.last"))
    _outcome(ended[0])
    if len(ended) > 1:
        with st.expander(say("train.earlier", count=len(ended) - 1)):
            for job in ended[1:]:
                _outcome(job)


def _outcome(job: Job) -> None:
    when = datetime.fromisoformat(job.finished or job.created).astimezone()
    st.markdown(f"**{job.stock}** · {when:%Y-%m-%d %H:%M} · {say(f'ended.{job.state}')}")
    if job.state == "done" and job.result:
        _result(job.result)
    elif job.refusal:
        refusals.show(job.refusal, job.error or "")
    elif job.error and job.state == "failed":
        refusals.show("PregaoError", job.error)


def _result(result: dict[str, Any]) -> None:
    metrics = result["metrics"]
    with figures():
        st.metric("MAPE", f"{number(metrics['final_mape'], 3)} %", width="content")
        st.metric(say("naive_mape"), f"{number(metrics['naive_mape'], 3)} %", width="content")
        st.metric(say("inside_90"), f"{number(metrics['coverage_90'], 1)} %", width="content")
        st.metric(say("training_time"), f"{number(metrics['total_time'], 1)} s", width="content")
    verdict = say("promoted" if result["promoted"] else "not_promoted", version=result["version"])
    (st.success if result["promoted"] else st.info)(verdict)
    st.caption(f"{say('detail')}: {result['promotion']}")


main()
