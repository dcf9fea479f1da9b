"""The commands as a person runs them, with every bad input that we know: a sentence, and nothing left behind."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pregao.settings import REPOSITORY
from tests.conftest import SMALL, environment, random_walk, run

UNREACHABLE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
"""An environment without network: a proxy that nobody listens at."""


def closes(*changed):
    """Closes for predict.py; `changed` are put in the place of the last."""
    return f"closes=[{','.join(map(str, [*range(40, 60 - len(changed)), *changed]))}]"


def query(home, sql):
    with sqlite3.connect(home / "mlruns/mlflow.db") as database:
        return database.execute(sql).fetchall()


def statuses(home):
    return [status for (status,) in query(home, "select status from runs order by start_time")]


def champions(home):
    return query(home, "select name, version from registered_model_aliases where alias = 'champion'")


def left(home):
    """What a command could leave behind: every file and folder but MLflow's and yfinance's cookies."""
    kept = [
        path for folder in ("outputs", "data") for path in (home / folder).rglob("*") if ".yfinance" not in path.parts
    ]
    return {path: path.read_bytes() if path.is_file() else None for path in kept}


def sentence(done, code=2):
    """The refusal on stderr, after whatever the log said."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert 'File "' not in done.stderr
    [said] = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith(("INFO ", "WARNING "))]
    return said


def refused(program, *arguments, home, **environment):
    """The sentence of a command that must leave prices, run folders and MLflow as they were."""
    before = left(home), statuses(home), champions(home)
    said = sentence(run(program, *arguments, home=home, **environment))
    assert (left(home), statuses(home), champions(home)) == before
    return said


def small(prices):
    """A training that does not look at the SHARED which comes with the repository."""
    return (*SMALL, "stock=PETR4", "source=csv", f"source.path={prices}", "end=2024-12-30", "train.init=none")


@pytest.fixture
def prices(tmp_path):
    """A folder with PETR4.csv: VALE3's model comes with the repository, and would be there before any training."""
    folder = tmp_path / "prices"
    folder.mkdir()
    random_walk().to_csv(folder / "PETR4.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory, empty_database):
    """A home with a served model of PETR4; its file `stdout` is what the training said."""
    home, folder = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("prices")
    (home / "mlruns").mkdir()
    shutil.copy(empty_database, home / "mlruns")
    random_walk().to_csv(folder / "PETR4.csv", index=False)
    done = run("train.py", *small(folder), home=home, COLUMNS="40")
    assert done.returncode == 0, done.stderr
    (home / "stdout").write_text(done.stdout, encoding="utf-8")
    return home


@pytest.fixture
def champion(trained_home, tmp_path):
    """A copy of the trained home, its database pointing into the copy."""
    home = Path(shutil.copytree(trained_home, tmp_path / "home"))
    with sqlite3.connect(home / "mlruns/mlflow.db") as database:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            change = f"update {table} set {column} = replace({column}, ?, ?)"
            database.execute(change, (str(trained_home), str(home)))
    return home


@pytest.fixture
def disk(tmp_path):
    """A disk of its own for PREGAO_HOME, to be filled or made read-only by `mount`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def remount(disk, option):
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True)


def moved_to(disk, home):
    """The home on that disk; the paths in its database lead there too."""
    shutil.copytree(home / "mlruns", disk / "mlruns")
    with sqlite3.connect(disk / "mlruns/mlflow.db") as database:
        change = "update experiments set artifact_location = replace(artifact_location, ?, ?)"
        database.execute(change, (str(home), str(disk)))
    return disk


# what answers at once, before torch is loaded


@pytest.mark.parametrize("arguments", [("--help",), ("model.hiden_size=40",), ("seed=-1",)])
def test_help_and_a_mistake_answer_at_once(home, arguments):
    def seconds():  # of processor time: elapsed time depends on what else the machine does
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run("train.py", *arguments, home=home)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "model.hiden_size=40",
            "model.hiden_size: there is no such setting. Did you mean model.hidden_size? Allowed in",
        ),
        ("sorce=csv", "sorce: there is no such setting. Did you mean source? Allowed at the top: source, model"),
        ("zzz=1", "zzz: there is no such setting. Allowed at the top"),
        ("+foo=bar", "foo: there is no such setting."),
        ("+trainer.callbacks=foo", "trainer.callbacks: there is no such setting"),
        ("model=lstmm", "In 'train': Could not find 'model/lstmm' Available options in 'model': absolute lstm."),
        ("data=5", "Config group override must be a string or a list. Got int."),
        ("experiment=none", "In 'train': Could not find 'experiment/none' Available options in 'experiment': "),
        ("+trainer.max_epochs=3", "Could not append to config. An item is already at 'trainer.max_epochs'."),
        ("stock", "'stock' cannot be read ("),
        ("stock=PETR4 VALE3)", "'stock=PETR4 VALE3)' cannot be read ("),
        ("stock=VALE３", "'stock=VALE３' cannot be read ("),
        ("trainer.max_epochs=0", "trainer.max_epochs=0: should be greater than 0"),
        ("ckpt_path=", "ckpt_path='': should be a path, or null for none"),
    ],
)
def test_a_mistyped_override_is_refused_with_what_is_allowed(home, given, said):
    told = refused("train.py", given, home=home)
    assert told.startswith(said)
    assert "--help" in told


@pytest.mark.parametrize("value", ["0", "1", ""])
def test_a_mistyped_override_is_a_sentence_however_hydra_is_set_to_report_errors(home, value):
    said = refused("train.py", "model.hiden_size=40", home=home, HYDRA_FULL_ERROR=value)
    assert said.startswith("model.hiden_size: there is no such setting. Did you mean model.hidden_size?")


@pytest.mark.parametrize(
    "stock",
    [
        "../../etc/passwd",
        "../../../../escaped/here",
        "/etc/passwd",
        "A" * 1000,
        "'VALE3; rm -rf /'",
        '"VA\'LE3"',
        "'VAL\"E3'",
        r"VAL\x00E3",
        "'VALE٣'",
        "'VALE\n3'",
        "VALE 3",
        "'~'",
        "123",
        "[VALE3,PETR4]",
        "${seed}",
    ],
    ids=lambda stock: ascii(stock[:20]),
)
def test_what_is_no_ticker_is_refused_and_names_no_folder(home, stock):
    around = set(home.parent.rglob("*"))
    told = refused("train.py", f"stock={stock}", home=home)
    assert "is not a ticker. A B3 ticker is a letter, three letters or digits" in told
    assert len(told) < 400
    assert set(home.parent.rglob("*")) - around <= {home / "outputs"}
    assert not Path("/escaped").exists()


def test_a_refusal_in_a_folder_of_the_users_own_deletes_nothing_in_it(home, tmp_path):
    own = tmp_path / "thesis"
    own.mkdir()
    (own / "chapter1.txt").write_text("years of work", encoding="utf-8")
    os.utime(own / "chapter1.txt", (0, 0))
    refused("train.py", f"hydra.run.dir={own}", "seed=-1", home=home)
    assert (own / "chapter1.txt").read_text(encoding="utf-8") == "years of work"


def test_a_home_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    told = sentence(run("train.py", home=tmp_path / "file"))
    assert "Not a directory" in told
    assert "PREGAO_HOME=/some/folder" in told


def test_predict_refuses_an_unknown_format(home):
    assert refused("predict.py", "format=xml", home=home).startswith("format='xml': should be 'table' or 'json'")


@pytest.mark.parametrize("limit", [0, 500])
def test_a_disk_that_is_full_from_the_start_is_a_sentence(home, limit):
    assert "cannot be written" in sentence(limited("train.py", "seed=1", home=home, limit=limit))


def limited(program, *arguments, home, limit):
    """A command that may write no file longer than `limit` bytes."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY / program), *arguments],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


# a training, and what it is refused


def test_the_last_line_is_the_run_folder_alone_however_narrow_the_terminal(trained_home):
    last = (trained_home / "stdout").read_text(encoding="utf-8").splitlines()[-1]
    folder = Path(last)
    assert folder.is_absolute()
    assert folder.parent == trained_home / "outputs" / "PETR4"
    files = {"metrics.json", "forecast.csv", "evaluation.csv", "report.png", "train.log", ".hydra", "checkpoints"}
    assert files <= {path.name for path in folder.iterdir()}
    assert statuses(trained_home) == ["FINISHED"]
    assert champions(trained_home) == [("PETR4", 1)]


DATES = [
    ("start=2024-06-01 end=2024-01-31", "start=2024-06-01 is after end=2024-01-31."),
    ("start=2024-02-30", "start=2024-02-30 is not a date. Write it as year-month-day"),
    ("start=20240102", "start=20240102 is not a date."),
    ("start=01/02/2024", "start=01/02/2024 is not a date."),
    ("start=2999-01-01", "start=2999-01-01 is in the future (today is "),
    ("end=tomorrow", "end=tomorrow is not a date."),
]


@pytest.mark.parametrize(("dates", "said"), [DATES[0], *(pytest.param(*d, marks=pytest.mark.slow) for d in DATES[1:])])
def test_dates_that_are_none_are_refused(home, dates, said):
    assert refused("train.py", *dates.split(), home=home).startswith(said)


def test_a_range_that_is_too_short_is_told_how_many_sessions_are_needed(home, prices):
    told = refused("train.py", *small(prices), "start=2024-11-22", home=home)
    assert "25 sessions from 2024-11-22 to 2024-12-30, and at least 95 are needed" in told


@pytest.mark.slow
@pytest.mark.parametrize("stock", ["", "null"])
def test_a_stock_must_be_given(home, stock):
    told = refused("train.py", f"stock={stock}", home=home)
    assert told.startswith(("stock='' is not a ticker", "stock='None' is not a ticker"))


@pytest.mark.slow
def test_an_unknown_stock_is_told_which_there_are(home, prices):
    told = refused("train.py", *small(prices), "stock=PETR9", home=home)
    assert told.startswith("PETR9: csv knows no such stock")
    assert "The folder has PETR4." in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"date,price\n2024-01-02,10\n", "it has no column close (found: date, price)"),
        (b"date,close\n2024-01-02,ten\n", "close in line 2 is no number like 61.5 ('ten'; 1 such cells)"),
        (b"date,close\n2024-01-02,-5\n2024-01-03,10\n", "prices of zero or less: 1 (2024-01-02)"),
        (b"date,close\n2024-01-02,\xff\xfe\n", "line 2 is not UTF-8"),
        (b"", "the file is empty"),
    ],
    ids=["no close", "text", "negative", "not UTF-8", "empty"],
)
def test_a_csv_that_cannot_be_used_is_refused_with_its_defect(home, prices, content, said):
    (prices / "PETR4.csv").write_bytes(content)
    told = refused("train.py", *small(prices), home=home)
    assert str(prices) in told
    assert said in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("source=yahoo", "source.path=/tmp"), "source.path=/tmp is not read with source=yahoo."),
        (("source=csv",), "source=csv needs source.path="),
        (("source=csv", "source.path=/nowhere"), "source.path=/nowhere does not exist."),
        (("source=sample",), "VALE3: sample knows no such stock"),
    ],
)
def test_a_source_that_cannot_answer_is_refused(home, arguments, said):
    assert refused("train.py", *arguments, home=home).startswith(said)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["auto", "yahoo"])
def test_without_network_and_cache_the_command_fails_within_half_a_minute(home, source):
    started = time.perf_counter()
    told = refused("train.py", f"source={source}", home=home, **UNREACHABLE)
    assert time.perf_counter() - started < 30
    assert told.startswith("VALE3: no prices. Tried: ")
    assert "source=csv source.path=DIR" in told


@pytest.mark.slow
def test_without_network_b3_fails_within_half_a_minute_too(home):
    started = time.perf_counter()
    told = sentence(run("train.py", "source=b3", home=home, **UNREACHABLE))
    assert time.perf_counter() - started < 30
    assert told.startswith("VALE3: no prices. Tried: b3: https://")
    assert [path for path in (home / "data").rglob("*") if path.is_file() and path.name != ".lock"] == []


@pytest.mark.slow
def test_without_network_a_stale_cache_is_used_with_a_warning(home):
    (home / "data").mkdir()
    random_walk().to_csv(home / "data/PETR4.csv", index=False)
    kept = (home / "data/PETR4.csv").read_bytes()
    done = run("train.py", "stock=PETR4", *SMALL, home=home, **UNREACHABLE)
    assert done.returncode == 0, done.stderr
    assert "2024-12-30" in next(line for line in done.stderr.splitlines() if line.startswith("WARNING "))
    assert (home / "data/PETR4.csv").read_bytes() == kept


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_a_checkpoint_that_cannot_be_read_is_refused(home, prices, tmp_path, damage):
    path = tmp_path / "last.ckpt"
    if damage == "corrupt":
        for name in ("last.ckpt", "best.ckpt"):
            (tmp_path / name).write_bytes(b"PK\x03\x04 not really")
    told = refused("train.py", *small(prices), f"ckpt_path={path}", home=home)
    assert told.startswith(f"ckpt_path={path}: ")


@pytest.mark.slow
def test_a_training_goes_on_from_a_checkpoint(champion, prices):
    [last] = champion.glob("outputs/PETR4/*/checkpoints/last.ckpt")
    done = run("train.py", *small(prices), "trainer.max_epochs=3", f"ckpt_path={last}", home=champion)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((Path(done.stdout.splitlines()[-1]) / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["epochs"] == 3


@pytest.mark.slow
def test_the_quickstart_needs_no_network(home):
    done = run("train.py", "experiment=quickstart", *SMALL[1:], home=home, **UNREACHABLE)
    assert done.returncode == 0, done.stderr
    assert ("SP500", 1) in champions(home)


# sweeps


@pytest.mark.slow
def test_jobs_of_a_sweep_leave_folders_and_are_not_served(home, prices):
    done = run("train.py", "-m", *small(prices), "model.hidden_size=4,5", "promote=always", home=home)
    assert done.returncode == 0, done.stderr
    folders = sorted(home.glob("outputs/multirun/*/[0-9]"))
    assert [folder.name for folder in folders] == ["0", "1"]
    assert all((folder / "metrics.json").is_file() for folder in folders)
    assert statuses(home) == ["FINISHED"] * 3  # the parent, and the jobs
    assert champions(home) == []


@pytest.mark.slow
def test_a_refused_job_of_a_sweep_does_not_stop_the_others(home, prices):
    done = run("train.py", "-m", *small(prices), "stock=PETR9,PETR4", home=home)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "stock=PETR9" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("PETR9: csv knows no such stock")
    assert [path.parent.name for path in home.glob("outputs/multirun/*/*/metrics.json")] == ["1"]


# interruptions


def interrupted(home, prices, sent):
    """The exit code, stderr and process group of a training that got a signal in the middle of its epochs."""
    command = [sys.executable, str(REPOSITORY / "train.py"), *small(prices)]
    former = set(home.glob("outputs/PETR4/*"))
    process = subprocess.Popen(
        [*command, "trainer.max_epochs=1000000", "trainer.patience=null"],
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        patience = time.monotonic() + 60
        while not any(
            (folder / "checkpoints/last.ckpt").exists() for folder in set(home.glob("outputs/PETR4/*")) - former
        ):
            assert process.poll() is None
            assert time.monotonic() < patience
            time.sleep(0.05)
        os.killpg(process.pid, sent)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    return process.returncode, stderr, process.pid


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (signal.SIGINT, 130, "Interrupted; the served model is unchanged."),
        pytest.param(signal.SIGTERM, 143, "Terminated; the served model is unchanged.", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_training_cleanly(champion, prices, sent, code, said):
    served = champions(champion)
    returned, stderr, group = interrupted(champion, prices, sent)
    assert returned == code
    assert stderr.splitlines()[-1] == said
    assert "Traceback" not in stderr
    assert statuses(champion) == ["FINISHED", "KILLED"]
    assert champions(champion) == served
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


# storage and MLflow that fail


@pytest.mark.parametrize("limit", [100_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_file_that_cannot_grow_is_a_sentence(champion, prices, limit):
    before = left(champion), champions(champion)
    told = sentence(limited("train.py", *small(prices), home=champion, limit=limit))
    assert "cannot be written" in told
    assert (left(champion), champions(champion)) == before


@pytest.mark.slow
@pytest.mark.parametrize("free", [24, 60, 120, 180, 240, 300, 400])
def test_a_disk_that_becomes_full_is_a_sentence(disk, champion, prices, free):
    home = moved_to(disk, champion)
    used = shutil.disk_usage(disk).used // 1024
    remount(disk, f"size={used + free}k")
    told = sentence(run("train.py", *small(prices), home=home))
    assert "cannot be written" in told
    assert not list(home.glob("outputs/*/*"))
    remount(disk, "size=64m")
    assert champions(home) == champions(champion)
    assert "FINISHED" not in statuses(home)[1:]


def test_a_read_only_home_is_refused_for_training(disk, home):
    shutil.copytree(home / "mlruns", disk / "mlruns")
    remount(disk, "ro")
    told = refused("train.py", home=disk)
    assert "cannot be written (Read-only file system)" in told


@pytest.mark.slow
def test_a_read_only_home_still_forecasts(disk, champion):
    shutil.copytree(champion / "mlruns", disk / "mlruns")
    remount(disk, "ro")
    done = run("predict.py", "stock=PETR4", closes(), home=disk)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", ["predict.py", pytest.param("train.py", marks=pytest.mark.slow)])
def test_a_damaged_database_is_named(home, prices, program):
    (home / "mlruns/mlflow.db").write_bytes(b"this was a database once " * 100)
    arguments = small(prices) if program == "train.py" else ()
    told = sentence(run(program, *arguments, home=home))
    assert "mlruns/mlflow.db cannot be used (file is not a database)" in told
    assert left(home) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://user:secret@127.0.0.1:9", "MLflow at http://…@127.0.0.1:9 cannot be used ("),
        ("bogus://x", "MLflow at bogus://x cannot be used ("),
    ],
)
def test_an_mlflow_that_does_not_answer_is_named_without_its_password(home, prices, uri, said):
    started = time.perf_counter()
    env = environment(home) | {"MLFLOW_TRACKING_URI": uri}
    command = [sys.executable, str(REPOSITORY / "train.py"), *small(prices)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert sentence(done).startswith(said)
    assert "secret" not in done.stderr
    assert time.perf_counter() - started < 60
    assert left(home) == {}


@pytest.mark.slow
def test_an_experiment_that_was_deleted_is_taken_up_again(champion, prices):
    with sqlite3.connect(champion / "mlruns/mlflow.db") as database:
        database.execute("update experiments set lifecycle_stage = 'deleted' where name = 'PETR4'")
    done = run("train.py", *small(prices), home=champion)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "missing", "folder"])
def test_a_served_model_that_is_damaged_is_named(champion, damage):
    [weights] = champion.glob("mlruns/artifacts/PETR4/models/*/artifacts/artifacts/model/model.safetensors")
    match damage:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:100])
        case "missing":
            weights.unlink()
        case "folder":
            shutil.rmtree(champion / "mlruns/artifacts/PETR4/models")
    told = refused("predict.py", "stock=PETR4", closes(), home=champion)
    assert "cannot be loaded" in told
    assert "train the stock again with train.py" in told


# forecasts


def test_json_is_all_that_stdout_holds(champion):
    done = run("predict.py", "stock=PETR4", closes(), "format=json", home=champion, COLUMNS="40")
    assert done.returncode == 0, done.stderr
    forecast = json.loads(done.stdout)
    assert forecast["stock"] == "PETR4"
    assert len(forecast["forecast"]) == 10
    assert forecast["prediction"] == forecast["forecast"][0]["close"]
    assert not list(REPOSITORY.glob("*.log"))


@pytest.mark.slow
def test_a_table_is_shown(champion, prices):
    done = run("predict.py", "stock=PETR4", f"source.path={prices}", "source=csv", home=champion)
    assert done.returncode == 0, done.stderr
    assert "PETR4: the next 10 closes after 2024-12-30, R$" in done.stdout


CLOSES = [
    (closes("nan"), "closes: number 20 of 20 is nan; every close must be a positive, finite price."),
    (closes("-3.5", "50"), "closes: number 19 of 20 is -3.5;"),
    (closes("ten"), "closes: number 20 of 20 is 'ten';"),
    (closes("null"), "closes: number 20 of 20 is None;"),
    (closes("true"), "closes: number 20 of 20 is True;"),
    (closes("[1]"), "closes: number 20 of 20 is [1];"),
    (closes("1e999"), "closes: number 20 of 20 is inf;"),
    ("closes=[1,2,3]", "closes: 3 were given; between 20 and 10,000 are needed"),
    (f"closes=[{','.join(['50'] * 19)}]", "closes: 19 were given; between 20 and 10,000 are needed"),
    ("closes=[]", "closes: 0 were given; between 20 and 10,000 are needed"),
]


@pytest.mark.parametrize(
    ("given", "said"), [CLOSES[0], *(pytest.param(*c, marks=pytest.mark.slow) for c in CLOSES[1:])]
)
def test_closes_that_are_no_prices_are_refused_by_their_position(champion, given, said):
    assert refused("predict.py", "stock=PETR4", given, home=champion).startswith(said)


def test_the_shared_model_answers_for_a_stock_without_a_model(champion):
    done = run("predict.py", "stock=ITUB4", closes(), "format=json", home=champion)
    assert done.returncode == 0, done.stderr
    forecast = json.loads(done.stdout)
    assert (forecast["stock"], forecast["model"]["stock"]) == ("ITUB4", "SHARED")


@pytest.mark.slow
def test_a_forecast_of_the_shared_model_itself_is_refused(home):
    told = sentence(run("predict.py", "stock=SHARED", home=home))
    assert told.endswith("It is the model of many stocks. Name a stock, like VALE3.")


# the shared model


def test_a_panel_of_refused_stocks_is_a_sentence(home, prices):
    together = (*small(prices), "stock=SHARED", "stocks=[XPTO3,XPTO4]")
    assert refused("train.py", *together, home=home).startswith("XPTO4: csv knows no such stock")


@pytest.mark.parametrize(
    "arguments",
    [
        ("stock=SHARED",),
        pytest.param(("stock=VALE3", "stocks=[VALE3,PETR4]"), marks=pytest.mark.slow),
        pytest.param(("experiment=ibovespa", "stock=VALE3"), marks=pytest.mark.slow),
    ],
)
def test_many_stocks_and_the_shared_model_belong_together(home, arguments):
    told = refused("train.py", *arguments, home=home)
    assert told.startswith("stocks=[…] belongs to stock=SHARED, and to no other: choose experiment=ibovespa")


@pytest.mark.slow
def test_a_stock_of_a_panel_that_is_no_ticker_is_refused(home, prices):
    told = refused("train.py", *small(prices), "stock=SHARED", "stocks=[PETR4,../x]", home=home)
    assert "is not a ticker" in told


def test_a_beginning_that_cannot_be_had_is_refused(home, prices):
    """The repository's SHARED is a larger network than this one."""
    before = left(home)
    done = run("train.py", *small(prices), "train.init=shared", home=home)
    assert sentence(done).startswith("train.init=shared: cannot start from the shared model (it is another network:")
    assert left(home) == before


@pytest.mark.slow
def test_the_repositorys_shared_model_is_where_a_stock_begins(home, prices):
    done = run("train.py", *small(prices), "model.hidden_size=40", "train.init=auto", home=home)
    assert done.returncode == 0, done.stderr
    [(began,)] = query(home, "select value from params where key = 'init'")
    assert began.startswith("SHARED version 1 run ")


@pytest.mark.slow
def test_a_beginning_afresh_is_said_and_kept_in_the_log(home, prices):
    done = run("train.py", *small(prices), "train.init=auto", home=home)
    assert done.returncode == 0, done.stderr
    said = "Not started from the shared model: it is another network"
    assert said in done.stderr
    assert said in (Path(done.stdout.splitlines()[-1]) / "train.log").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_shared_model_is_trained_by_its_experiment(home, real_prices):
    chosen = ["experiment=ibovespa", "stocks=[VALE3,PETR4,XPTO3,ASAI3]", "source=csv", f"source.path={real_prices}"]
    done = run("train.py", *chosen, "end=2025-07-28", "trainer.max_epochs=1", "promote=always", home=home, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "XPTO3 is left out: " in done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    assert folder.parent == home / "outputs/SHARED"
    assert "SHARED" in dict(champions(home))
    assert (folder / "scores.csv").is_file()
