"""Rows of several runs."""

from dataclasses import replace

from crrl_fast.report.collect import read_run
from crrl_fast.report.comparison import protocols, recipe_rows, result_rows
from tests.report.conftest import RECIPE, evaluation_record


def table(rows):
    return {
        (row.title, row.name, row.encoder): [None if c is None else (c.figure.value, c.best) for c in row.cells]
        for row in rows
    }


def test_rows_are_by_protocol_and_the_best_is_marked(make_run, tiny_store, tiny_path):
    semi = {"percent": 5, "clips": 2, "draws": 2, "accuracies": [1, 3], "mean": 2.0, "std": 1.0}
    one = make_run(
        tiny_store,
        tiny_path,
        "one",
        records=[
            evaluation_record("semi", fractions=[semi]),
            evaluation_record("linear", accuracy=40.0),
            evaluation_record("linear", accuracy=20.0, encoder="random"),
            evaluation_record("knn", accuracy=30.02),
        ],
    )
    two = make_run(
        tiny_store,
        tiny_path,
        "two",
        stages=("ser",),
        records=[
            evaluation_record("linear", accuracy=45.0, encoder="ser"),
            evaluation_record("knn", accuracy=30.04, encoder="ser"),
        ],
    )
    rows = result_rows([read_run(one, "one", None), read_run(two, "two", None)])
    assert list(table(rows).items()) == [
        (("Linear probe", "", ""), [(40.0, False), (45.0, True)]),
        (("Linear probe", "", "random"), [(20.0, False), None]),
        (("Nearest neighbour", "", ""), [(30.02, True), (30.04, True)]),  # equal as they are shown
        (("Semi-supervised", "5 % of the labels", ""), [(2.0, False), None]),
    ]


def test_runs_on_other_test_clips_have_no_best(make_run, tiny_store, tiny_path):
    one = make_run(tiny_store, tiny_path, "one")
    two = make_run(tiny_store, tiny_path, "two", records=[evaluation_record(accuracy=10.0, split="other")])
    rows = result_rows([read_run(one, "one", None), read_run(two, "two", None)])
    assert [cell.best for cell in rows[0].cells] == [False, False]


def test_transfers_are_compared_on_where_they_go(make_run, tiny_store, tiny_path, unlabelled):
    records = [evaluation_record("transfer", to={"dataset": "ucla"}, dataset="ucla")]
    one = make_run(tiny_store, tiny_path, "one", records=records)
    other = replace(unlabelled, info=replace(unlabelled.info, sha256="0" * 64))
    two = make_run(other, tiny_path, "two", records=records)
    (row,) = result_rows([read_run(one, "one", None), read_run(two, "two", None)])
    assert [cell.best for cell in row.cells] == [True, True]


def test_files_of_ones_own_naming_stay_apart(tiny_run):
    source = tiny_run.path / "eval" / "linear-inf.json"
    (tiny_run.path / "eval" / "mine.json").write_text(source.read_text())
    rows = result_rows([read_run(tiny_run, "run", None)])
    assert sorted(row.title for row in rows) == ["Linear probe (linear-inf)", "Linear probe (mine)"]


def test_a_protocol_is_said_once(make_run, tiny_store, tiny_path):
    records = [evaluation_record("knn"), evaluation_record("linear"), evaluation_record("linear", encoder="random")]
    run = read_run(make_run(tiny_store, tiny_path, records=records), "run", None)
    said = [(p.title, p.sentence) for p in protocols([run, run])]
    assert said == [("Linear probe", "how linear is done"), ("Nearest neighbour", "how knn is done")]


def test_recipe_fields_that_differ_from_the_named_one_and_between_runs(make_run, tiny_store, tiny_path):
    one = make_run(tiny_store, tiny_path, "one")
    two = make_run(tiny_store, tiny_path, "two", recipe=RECIPE.with_overrides({"lr_milestones": "1", "lr": "0.3"}))
    rows = {row.name: row for row in recipe_rows([read_run(one, "one", None), read_run(two, "two", None)])}
    assert (rows["lr"].values, rows["lr"].named, rows["lr"].differs) == (("0.2", "0.3"), ("0.05", "0.05"), True)
    assert (rows["epochs"].named, rows["epochs"].differs) == (("60", "60"), False)
    assert (rows["lr_milestones"].values, rows["lr_milestones"].named) == (("18, 50", "1"), (None, "18, 50"))
    assert rows["key_mlp_momentum"].values == ("false", "false")
    assert not rows["momentum"].changed
