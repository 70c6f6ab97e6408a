"""A tiny ablation table worked out by hand in all four formats, and the laws that every table obeys."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.ablation import Cell, Column, Cost, Measured, ablation_table, with_baselines
from evals.ablation_formats import FORMATS, latex, table_notes, to_csv, to_document, to_json, to_latex, to_markdown
from evals.summary import EvalMode

UIDS = [f"p{index}" for index in range(10)]


def measured(
    benchmark: str, *values: float, mode: EvalMode = "thinking", area: str = "reasoning", seeds: int = 2
) -> Measured:
    """The values in turn over ten prompts, the same with every seed."""
    scores = {uid: values[index % len(values)] for index, uid in enumerate(UIDS)}
    return Measured(area, benchmark, mode, dict.fromkeys(range(seeds), scores))


# Every prompt moves alike, so that all resamples have one mean, intervals have no width, and p is the larger of
# 2 / (999 + 1) = 0.002 and 2^(1 - 10) = 0.00195: 0.002. Of the four differences three have p = 0.002 and one, which is
# zero, has 1: after Holm 4 * 0.002 = 0.008, 0.008, 0.008 (never below the one before) and 1.
TINY = ablation_table(
    "Ablation tiny: 100 % of_it",
    with_baselines(
        [
            Column(
                "cold_start",
                (measured("math", 0.5), measured("math", 0.25, mode="non_thinking")),
                Cost(1500, 2.5e12, 0.5),
            ),
            Column(
                "reasoning_rl",
                (
                    measured("math", 0.75),
                    measured("math", 0.25, mode="non_thinking"),
                    measured("think_follow", 0.5, mode="mixed", area="instruction_following"),
                ),
                Cost(2_000_000, 4e15, 1.25),
            ),
            Column(
                "fusion",
                (
                    measured("math", 0.5),
                    measured("think_follow", 1.0, mode="mixed", area="instruction_following"),
                ),
                Cost(None, None, 0.004),
                baseline=None,
            ),
        ]
    ),
    num_resamples=999,
    seed=7,
)

NOTES = (
    "Scores in %; differences in points to the column named under the heading, with 95 % intervals from a bootstrap "
    "over seeds and prompts (999 resamples), paired by both; 2 seeds and 10 prompts a benchmark. * significant at 0.05 "
    "after Holm's correction over all 4 differences of the table. Cost: tokens trained on or generated, model FLOPs, "
    "hours of wall time."
)

MARKDOWN = f"""# Ablation tiny: 100 % of_it

| benchmark | cold_start, thinking | cold_start, non-thinking | reasoning_rl, thinking | reasoning_rl, non-thinking | fusion, thinking | fusion, non-thinking |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| *compared with* | – |  | cold_start |  | reasoning_rl |  |
| **instruction_following** |  |  |  |  |  |  |
| think_follow (mixed) | – | – | 50.0 | – | 100.0, +50.0* (+50.0 to +50.0) | – |
| **reasoning** |  |  |  |  |  |  |
| math | 50.0 | 25.0 | 75.0, +25.0* (+25.0 to +25.0) | 25.0, 0.0 (0.0 to 0.0) | 50.0, -25.0* (-25.0 to -25.0) | – |
| **cost** |  |  |  |  |  |  |
| tokens | 1.5k |  | 2M |  | – |  |
| FLOPs | 2.50e+12 |  | 4.00e+15 |  | – |  |
| hours | 0.50 |  | 1.25 |  | 0.00 |  |

{NOTES}
"""  # noqa: E501

LATEX = rf"""% Ablation tiny: 100 % of_it
% {NOTES}
\begin{{tabular}}{{lrrrrrr}}
\toprule
 & \multicolumn{{2}}{{c}}{{cold\_start}} & \multicolumn{{2}}{{c}}{{reasoning\_rl}} & \multicolumn{{2}}{{c}}{{fusion}} \\
\cmidrule(lr){{2-3}} \cmidrule(lr){{4-5}} \cmidrule(lr){{6-7}}
compared with & \multicolumn{{2}}{{c}}{{--}} & \multicolumn{{2}}{{c}}{{cold\_start}} & \multicolumn{{2}}{{c}}{{reasoning\_rl}} \\
 & thinking & non-thinking & thinking & non-thinking & thinking & non-thinking \\
\midrule
\multicolumn{{7}}{{l}}{{\textit{{instruction\_following}}}} \\
think\_follow (mixed) & -- & -- & 50.0 & -- & 100.0 & -- \\
 &  &  &  &  & {{\scriptsize $+50.0^{{*}}$ $[+50.0, +50.0]$}} &  \\
\midrule
\multicolumn{{7}}{{l}}{{\textit{{reasoning}}}} \\
math & 50.0 & 25.0 & 75.0 & 25.0 & 50.0 & -- \\
 &  &  & {{\scriptsize $+25.0^{{*}}$ $[+25.0, +25.0]$}} & {{\scriptsize $0.0$ $[0.0, 0.0]$}} & {{\scriptsize $-25.0^{{*}}$ $[-25.0, -25.0]$}} &  \\
\midrule
tokens & \multicolumn{{2}}{{c}}{{1.5k}} & \multicolumn{{2}}{{c}}{{2M}} & \multicolumn{{2}}{{c}}{{--}} \\
FLOPs & \multicolumn{{2}}{{c}}{{2.50e+12}} & \multicolumn{{2}}{{c}}{{4.00e+15}} & \multicolumn{{2}}{{c}}{{--}} \\
hours & \multicolumn{{2}}{{c}}{{0.50}} & \multicolumn{{2}}{{c}}{{1.25}} & \multicolumn{{2}}{{c}}{{0.00}} \\
\bottomrule
\end{{tabular}}
"""  # noqa: E501

# ---------------------------------------------------------------------------------------------- by hand


def test_the_tiny_table_as_markdown() -> None:
    assert to_markdown(TINY) == MARKDOWN


def test_the_tiny_table_as_latex() -> None:
    assert to_latex(TINY) == LATEX


def test_the_tiny_table_as_csv() -> None:
    header, *lines = to_csv(TINY).splitlines()
    assert header == (
        "area,benchmark,mode,column,mean,low,high,num_seeds,num_prompts,"
        "baseline,delta,delta_low,delta_high,num_pairs,p_value,p_holm,significant,tokens,flops,hours"
    )
    assert lines == [
        "instruction_following,think_follow,mixed,reasoning_rl,0.5,0.5,0.5,2,10,,,,,,,,,2000000,4000000000000000.0,1.25",
        "instruction_following,think_follow,mixed,fusion,1.0,1.0,1.0,2,10,"
        "reasoning_rl,0.5,0.5,0.5,10,0.002,0.008,True,,,0.004",
        "reasoning,math,thinking,cold_start,0.5,0.5,0.5,2,10,,,,,,,,,1500,2500000000000.0,0.5",
        "reasoning,math,thinking,reasoning_rl,0.75,0.75,0.75,2,10,"
        "cold_start,0.25,0.25,0.25,10,0.002,0.008,True,2000000,4000000000000000.0,1.25",
        "reasoning,math,thinking,fusion,0.5,0.5,0.5,2,10,reasoning_rl,-0.25,-0.25,-0.25,10,0.002,0.008,True,,,0.004",
        "reasoning,math,non_thinking,cold_start,0.25,0.25,0.25,2,10,,,,,,,,,1500,2500000000000.0,0.5",
        "reasoning,math,non_thinking,reasoning_rl,0.25,0.25,0.25,2,10,"
        "cold_start,0.0,0.0,0.0,10,1.0,1.0,False,2000000,4000000000000000.0,1.25",
    ]


def test_the_tiny_table_as_json() -> None:
    document = json.loads(to_json(TINY))
    assert document == to_document(TINY)
    assert {name: document[name] for name in ("title", "alpha", "confidence", "num_resamples", "num_deltas")} == {
        "title": "Ablation tiny: 100 % of_it", "alpha": 0.05, "confidence": 0.95, "num_resamples": 999, "num_deltas": 4,
    }  # fmt: skip
    assert document["columns"][2] == {
        "name": "fusion", "baseline": "reasoning_rl", "cost": {"tokens": None, "flops": None, "hours": 0.004},
    }  # fmt: skip
    assert len(document["cells"]) == 7
    assert document["cells"][1] == {
        "area": "instruction_following", "benchmark": "think_follow", "mode": "mixed", "column": "fusion",
        "mean": 1.0, "low": 1.0, "high": 1.0, "num_seeds": 2, "num_prompts": 10, "baseline": "reasoning_rl",
        "delta": 0.5, "delta_low": 0.5, "delta_high": 0.5, "num_pairs": 10, "p_value": 0.002, "p_holm": 0.008,
        "significant": True,
    }  # fmt: skip


def test_a_table_of_one_column_and_one_mode_has_no_deltas_and_no_mode_in_its_heading() -> None:
    table = ablation_table("One", [Column("a|b", (measured("math", 0.5, seeds=1),))], num_resamples=50, seed=0)
    assert "| benchmark | a\\|b |" in to_markdown(table)
    assert "compared with" not in to_markdown(table) + to_latex(table)
    assert table.num_deltas == 0
    assert "1 seed and 10 prompts" in table_notes(table)
    assert "does not cover what another seed would do" in table_notes(table)


def test_a_table_of_nothing_is_said_to_be_empty() -> None:
    table = ablation_table("None", [Column("a", ()), Column("b", (), baseline="a")], seed=0)
    assert [text(table) for text in FORMATS.values()]
    assert "Nothing was measured." in to_markdown(table)
    assert to_csv(table) == ""


def test_nothing_in_a_name_is_a_command_of_latex() -> None:
    assert latex("a_b & 5% {x} \\y ~ ^2 #1 $") == (
        r"a\_b \& 5\% \{x\} \textbackslash{}y \textasciitilde{} \textasciicircum{}2 \#1 \$"
    )


# ---------------------------------------------------------------------------------------------- pairs


def test_a_delta_pairs_by_prompt_and_by_seed() -> None:
    ours = Measured("reasoning", "math", "thinking", {0: {"a": 1.0, "b": 0.0}, 1: {"a": 1.0, "b": 1.0}, 2: {"a": 1.0}})
    theirs = Measured(
        "reasoning", "math", "thinking", {0: {"a": 0.0, "c": 1.0}, 1: {"b": 0.5, "a": 1.0}, 3: {"a": 0.0}}
    )
    table = ablation_table("t", [Column("x", (theirs,)), Column("y", (ours,), baseline="x")], num_resamples=50, seed=0)
    cell = table.rows[0].cells[1]
    assert cell is not None
    assert cell.delta is not None
    found = cell.delta.estimate
    assert found.mean == pytest.approx((1.0 + 0.0 + 0.5) / 3)  # seed 0: a; seed 1: a and b
    assert (found.num_seeds, found.num_prompts) == (2, 2)
    assert cell.estimate.mean == pytest.approx(4 / 5)
    assert (cell.estimate.num_seeds, cell.estimate.num_prompts) == (3, 2)


def test_columns_that_share_no_prompt_or_no_seed_have_no_delta() -> None:
    one = Measured("reasoning", "math", "thinking", {0: {"a": 1.0}})
    for other in ({0: {"b": 1.0}}, {1: {"a": 1.0}}, {}):
        theirs = Measured("reasoning", "math", "thinking", other)
        table = ablation_table("t", [Column("x", (theirs,)), Column("y", (one,), baseline="x")], seed=0)
        assert table.rows[0].cells[1] == Cell(table.rows[0].cells[1].estimate, None)  # type: ignore[union-attr]


def test_a_column_is_compared_with_the_one_before_unless_it_names_another() -> None:
    columns = with_baselines([Column("a", ()), Column("b", ()), Column("c", (), baseline="a"), Column("d", ())])
    assert [column.baseline for column in columns] == [None, "a", "a", "c"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([Column("a", ()), Column("a", ())], "a name occurs twice"),
        ([Column("a", (), baseline="b")], "the baseline 'b' of 'a' is none of"),
        ([Column("a", (measured("m", 1.0), measured("m", 0.5)))], r"m \(thinking\) is given twice"),
    ],
)
def test_columns_that_contradict_each_other_are_refused(columns: list[Column], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ablation_table("t", columns, seed=0)


# ---------------------------------------------------------------------------------------------- laws

SCORES = st.dictionaries(
    st.integers(0, 4),
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0.0, 0.5, 1.0]), max_size=6),
    max_size=5,
)


@st.composite
def columns_of(draw: st.DrawFn) -> list[Column]:
    """Up to four columns with any scores on two benchmarks in any modes, seeds and prompts missing here and there."""
    modes: tuple[EvalMode, ...] = ("thinking", "non_thinking", "mixed")
    places = [(benchmark, mode) for benchmark in ("m", "n") for mode in modes]
    names = draw(st.lists(st.sampled_from("wxyz"), min_size=1, max_size=4, unique=True))
    columns = [
        Column(name, tuple(Measured("area", benchmark, mode, draw(SCORES)) for benchmark, mode in places))
        for name in names
    ]
    return with_baselines(columns)


@settings(max_examples=40, deadline=None)
@given(columns=columns_of())
def test_any_seeds_and_prompts_make_a_table_in_every_format(columns: list[Column]) -> None:
    table = ablation_table("t", columns, num_resamples=20, seed=0)
    texts = {name: text(table) for name, text in FORMATS.items()}
    cells = [cell for row in table.rows for cell in row.cells if cell is not None]
    assert len(json.loads(texts["json"])["cells"]) == len(cells) == len(list(csv.reader(io.StringIO(texts["csv"])))[1:])
    assert texts["tex"].count("{") == texts["tex"].count("}")
    widths = {line.count("|") for line in texts["md"].splitlines() if line.startswith("|")}
    assert len(widths) == 1


@settings(max_examples=40, deadline=None)
@given(columns=columns_of(), data=st.data())
def test_the_order_of_the_columns_changes_no_cell(columns: list[Column], data: st.DataObject) -> None:
    order = data.draw(st.permutations(columns))
    first, second = (ablation_table("t", chosen, num_resamples=20, seed=0) for chosen in (columns, order))
    assert [(row.area, row.benchmark, row.mode) for row in first.rows] == [
        (row.area, row.benchmark, row.mode) for row in second.rows
    ]
    for ours, theirs in zip(first.rows, second.rows, strict=True):
        by_name = {column.name: cell for column, cell in zip(order, theirs.cells, strict=True)}
        assert list(ours.cells) == [by_name[column.name] for column in columns]


@settings(max_examples=40, deadline=None)
@given(columns=columns_of(), alpha=st.floats(0.001, 0.5))
def test_the_correction_marks_no_delta_that_is_not_significant_without_it(columns: list[Column], alpha: float) -> None:
    table = ablation_table("t", columns, alpha=alpha, num_resamples=20, seed=0)
    deltas = [cell.delta for row in table.rows for cell in row.cells if cell is not None and cell.delta is not None]
    assert len(deltas) == table.num_deltas
    for delta in deltas:
        assert delta.adjusted >= delta.estimate.p_value
        assert delta.significant == (delta.adjusted <= alpha)
