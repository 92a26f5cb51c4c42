"""Export: tidy tables that read back as they were, and TensorBoard files that its own reader understands."""

import polars as pl
import pytest
from demo import demo_study

from analysis.errors import AnalysisError
from analysis.export import MOST_LATEX_ROWS, export, latex_text, write_table

LR = {"optim.lr": [1e-4, 1e-3]}


@pytest.fixture(scope="module")
def study():
    return demo_study(LR, replicates=2, outcomes="ecd")


def test_events_and_configs_read_back(study, tmp_path):
    files = export(study, tmp_path, formats=["csv", "parquet", "latex"])
    assert {path.name for path in files} == {
        f"{name}.{suffix}" for name in ("events", "configs") for suffix in ("csv", "parquet", "tex")
    }
    events = pl.read_parquet(tmp_path / "events.parquet")
    assert events.equals(study.events)
    assert pl.read_csv(tmp_path / "configs.csv")["n"].sum() == 4
    assert all(path.stat().st_size for path in files)


def test_names_in_a_table_are_plain_text_in_parquet(tmp_path):
    named = demo_study({"model.attention.name": ["softmax", "heat"]}, replicates=1, outcomes="e")
    write_table(named.events, tmp_path / "events.parquet", title="events")
    assert pl.read_parquet(tmp_path / "events.parquet").schema["model.attention.name"] == pl.String


def test_a_long_latex_table_says_what_it_leaves_out():
    table = pl.DataFrame({"a_b": range(MOST_LATEX_ROWS + 7)})
    text = latex_text(table, title="long")
    assert "7 more rows" in text
    assert r"a\_b" in text


def test_an_unknown_format_is_one_line(study, tmp_path):
    with pytest.raises(AnalysisError, match=r"got 'xlsx'; expected some of csv, parquet, latex, tensorboard\.$"):
        export(study, tmp_path, formats=["xlsx"])
    for name in ("wandb", "mlflow"):
        with pytest.raises(AnalysisError, match=f"got '{name}'.* Its client reads the Parquet"):
            export(study, tmp_path, formats=["csv", name])
    assert not list(tmp_path.iterdir())  # refused before anything was written
    with pytest.raises(AnalysisError, match=r"expected \.csv, \.parquet or \.tex"):
        write_table(study.events, tmp_path / "events.xlsx", title="events")


def test_tensorboard_without_its_writer_names_the_extra(study, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(AnalysisError, match=r"pip install 'eureka\[tensorboard\]'"):
        export(study, tmp_path, formats=["tensorboard"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_is_a_folder_of_tensorboard_events(study, tmp_path):
    pytest.importorskip("tensorboardX")
    (folder,) = export(study, tmp_path, formats=["tensorboard"])
    assert {path.name for path in folder.iterdir()} == set(study.events["run_id"])
    assert all(any(run.glob("events.out.tfevents.*")) for run in folder.iterdir())
    first = next(iter(sorted(folder.iterdir())))
    raw = next(first.glob("events.out.tfevents.*")).read_bytes()
    assert raw.count(b"loss") >= study.digest.filter(pl.col("run_id") == first.name).height
