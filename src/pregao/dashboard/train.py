"""Train: start a training run, watch it, cancel it, see its result; one at a time on this machine."""

from datetime import UTC, date, datetime
from typing import Any

import streamlit as st

from pregao.dashboard import refusals
from pregao.dashboard.choices import field_columns, model_fields
from pregao.dashboard.language import day_format, help_of_choice, name_of_choice, number, say
from pregao.dashboard.refusals import guarded
from pregao.dashboard.state import EARLIEST, configuration, training_defaults, training_jobs
from pregao.dashboard.stocks import choose_stock
from pregao.dashboard.tables import metric_row
from pregao.prices.dates import parse_dates
from pregao.prices.symbols import SAMPLES, Symbol
from pregao.training.checked import CheckedTraining
from pregao.training.compose import train_config
from pregao.training.config import TrainConfig
from pregao.training.job import Job
from pregao.training.model_choices import model_name, offered

MOST_SHOWN = 10
"""Finished runs in the list."""


def main() -> None:
    """Show the page."""
    st.title(say("train.title"))
    st.caption(say("train.about"))
    running = training_jobs().running()
    if running is not None:
        _watch(running.id)
    else:
        with guarded():
            _form(choose_stock())
    _finished(running)


def _form(symbol: Symbol) -> None:
    names = offered()
    model = st.selectbox(say("train.model"), names, names.index(model_name(training_defaults(symbol))))
    defaults = training_defaults(symbol, model)
    with st.form(f"training of {symbol}", enter_to_submit=False):
        start, end = _dates(defaults)
        overrides = {"model": model, **model_fields(model, defaults.model), **_training_fields(defaults)}
        pressed = st.form_submit_button(say("train.start"), type="primary", icon=":material/play_arrow:")
    if pressed:
        _start(symbol, start, end, overrides)
        st.rerun()


def _dates(defaults: TrainConfig) -> tuple[date | None, date | None]:
    left, right = st.columns(2)
    today = datetime.now(UTC).date()
    start = left.date_input(
        say("train.from"), date.fromisoformat(defaults.start), min_value=EARLIEST, max_value=today, format=day_format()
    )
    end = right.date_input(
        say("train.to"),
        None if defaults.end is None else date.fromisoformat(defaults.end),
        min_value=EARLIEST,
        max_value=today,
        format=day_format(),
        help=say("train.to.help"),
    )
    return start, end


def _training_fields(defaults: TrainConfig) -> dict[str, Any]:
    """Fields for the choices of the training, by Hydra key."""
    columns = field_columns()
    return {
        "trainer.max_epochs": next(columns).number_input(
            *(name_of_choice("max_epochs"), 1, 1000, defaults.trainer.max_epochs), help=help_of_choice("max_epochs")
        ),
        "optimizer.learning_rate": next(columns).number_input(
            name_of_choice("learning_rate"), 1e-6, 1.0, defaults.optimizer.learning_rate, step=1e-4, format="%.6f"
        ),
        "data.batch_size": next(columns).number_input(name_of_choice("batch_size"), 1, 4096, defaults.data.batch_size),
        "seed": next(columns).number_input(
            name_of_choice("seed"), 0, 2**32 - 1, defaults.seed, help=help_of_choice("seed")
        ),
    }


def _start(symbol: Symbol, start: date | None, end: date | None, overrides: dict[str, Any]) -> None:
    parse_dates(start or "", end)
    source = configuration().source
    if symbol.ticker in SAMPLES:
        overrides = {"experiment": "quickstart"} | overrides
    with training_jobs().lock() as lock:
        dates = str(start), None if end is None else str(end)
        config = train_config(symbol, *dates, source, overrides, configuration().limits)
        training_jobs().start(lock, CheckedTraining.of(config))


@st.fragment(run_every=1.0)
def _watch(id: str) -> None:
    """A fragment that reruns each second; when the run has ended, the whole page reruns."""
    with guarded():
        job = training_jobs().read(id)
        if job.ended:
            st.rerun()
        st.subheader(say("train.running", stock=job.stock))
        st.progress(job.progress, say(f"state.{job.state}", epoch=job.epoch, epochs=job.epochs or "?"))
        left, right = st.columns(2)
        left.metric(say("train_loss"), number(job.train_loss, 4))
        right.metric(say("val_loss"), number(job.val_loss, 4))
        if st.button(say("train.cancel"), icon=":material/stop:", key=f"cancel {id}"):
            with st.spinner(say("train.cancelling")):
                training_jobs().cancel(id, say("train.cancelled_here"))
            st.rerun()


def _finished(running: Job | None) -> None:
    """The results of finished runs, newest first."""
    ended = [job for job in training_jobs().all() if job.ended][:MOST_SHOWN]
    if not ended and running is None:
        st.info(say("train.nothing"), icon=":material/info:")
    if not ended:
        return
    st.subheader(say("train.last"))
    _show_job(ended[0])
    if len(ended) > 1:
        with st.expander(say("train.earlier", count=len(ended) - 1)):
            for job in ended[1:]:
                _show_job(job)


def _show_job(job: Job) -> None:
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
    with metric_row():
        st.metric("MAPE", f"{number(metrics['final_mape'], 3)} %", width="content")
        st.metric(say("naive_mape"), f"{number(metrics['naive_mape'], 3)} %", width="content")
        st.metric(say("inside_90"), f"{number(metrics['coverage_90'], 1)} %", width="content")
        st.metric(say("training_time"), f"{number(metrics['total_time'], 1)} s", width="content")
    sentence = say("promoted" if result["promoted"] else "not_promoted", version=result["version"])
    (st.success if result["promoted"] else st.info)(sentence)
    st.caption(f"{say('detail')}: {result['promotion']}")


main()
