"""What a user sees of a run, on a terminal and in a log file."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.progress import Progress, format_duration, format_figures


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def plain_progress(total_stages: int = 2, **options: object) -> tuple[Progress, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    return Progress(total_stages, stream=stream, clock=clock, **options), stream, clock  # type: ignore[arg-type]


def test_a_plain_run_reads_as_a_log() -> None:
    progress, stream, clock = plain_progress()
    with progress:
        progress.stage("cold_start", 4)
        for step, loss in enumerate((2.5, 2.0, 1.5, 1.25), start=1):
            clock.now += 6
            progress.update(step, loss=loss, tokens_per_s=1234.5)
        progress.say("checkpoint saved")
        progress.skip_stage("reasoning_rl", "reused from an earlier run")
    assert stream.getvalue().splitlines() == [
        "stage 1/2 cold_start: 4 steps",
        "stage 1/2 cold_start: step 1/4  loss 2.5  tokens/s 1,234  18s left",
        "stage 1/2 cold_start: step 3/4  loss 1.5  tokens/s 1,234  6s left",
        "stage 1/2 cold_start: step 4/4  loss 1.25  tokens/s 1,234",
        "checkpoint saved",
        "stage 1/2 cold_start: done, 4 of 4 steps in 24s",
        "stage 2/2 reasoning_rl: reused from an earlier run",
    ]


def test_a_thousand_fast_steps_give_few_lines() -> None:
    progress, stream, clock = plain_progress(interval_s=10.0)
    with progress:
        progress.stage("s", 1000)
        for step in range(1, 1001):
            clock.now += 0.05
            progress.update(step)
    steps = re.findall(r"step ([\d,]+)/1,000", stream.getvalue())
    assert steps[0] == "1"
    assert steps[-1] == "1,000"
    assert len(steps) <= 7  # 50 seconds at one line in 10, and the first and the last


def test_a_stage_that_fails_is_said_to_have_stopped_and_the_error_passes() -> None:
    progress, stream, clock = plain_progress()

    def run() -> None:
        with progress:
            progress.stage("reasoning_rl", 10)
            clock.now += 90
            progress.update(3)
            raise RuntimeError("engine died")

    with pytest.raises(RuntimeError, match="engine died"):
        run()
    assert stream.getvalue().splitlines()[-1] == "stage 1/2 reasoning_rl: stopped after 3 of 10 steps in 1m 30s"


def test_a_resumed_stage_says_so_and_times_only_its_own_steps() -> None:
    progress, stream, clock = plain_progress()
    with progress:
        progress.stage("s", 110, first_step=100)
        clock.now += 3
        progress.update(101)
        assert progress.seconds_left() == pytest.approx(9 * 3)
    assert stream.getvalue().startswith("stage 1/2 s: 110 steps, going on after step 100\n")


def test_a_first_jump_to_a_resumed_step_is_not_taken_for_fast_steps() -> None:
    progress, _, clock = plain_progress()
    with progress:
        progress.stage("s", 110)
        clock.now += 3
        progress.update(101)
        assert progress.seconds_left() is None
        clock.now += 4
        progress.update(102)
        assert progress.seconds_left() == pytest.approx(8 * 4)


def test_time_left_is_smoothed_so_that_one_slow_step_moves_it_by_a_fifth() -> None:
    progress, _, clock = plain_progress()
    with progress:
        assert progress.seconds_left() is None
        progress.stage("s", 10)
        assert progress.seconds_left() is None
        clock.now += 1
        progress.update(1)
        assert progress.seconds_left() == pytest.approx(9.0)
        clock.now += 11
        progress.update(2)
        assert progress.seconds_left() == pytest.approx(8 * (0.8 * 1 + 0.2 * 11))
        progress.update(2, reward=0.5)  # the same step again is no step
        assert progress.seconds_left() == pytest.approx(8 * 3.0)
        clock.now += 6
        progress.update(4)  # two steps of 3 s keep the mean at 3 s
        assert progress.seconds_left() == pytest.approx(6 * 3.0)


def test_plain_output_has_no_control_codes_whatever_is_said() -> None:
    progress, stream, _ = plain_progress()
    with progress:
        progress.stage("s\x1b[2J", 1)
        progress.update(1, note="\x1b[31mred\x1b[0m\r")
        progress.say("\x1b]0;title\x07hello [bold]there[/bold]\x08")
        progress.warn("watch\x00 out")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", stream.getvalue())
    assert "note red\n" in stream.getvalue()
    assert "hello [bold]there[/bold]\n" in stream.getvalue()
    assert "warning: watch out\n" in stream.getvalue()


def test_quiet_leaves_only_warnings_even_on_a_terminal() -> None:
    for stream in (io.StringIO(), Terminal()):
        with Progress(1, quiet=True, stream=stream) as progress:
            progress.stage("s", 1)
            progress.update(1, loss=1.0)
            progress.say("news")
            progress.warn("3 scores failed")
        assert stream.getvalue() == "warning: 3 scores failed\n"


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setenv("TERM", "dumb")
    with Progress(1, stream=stream) as progress:
        progress.stage("s", 1)
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().startswith("stage 1/1 s: 1 steps\n")


def test_a_terminal_gets_the_live_display_unless_plain_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    live, plain = Terminal(), Terminal()
    for stream, choice in ((live, None), (plain, True)):
        with Progress(1, choice, stream=stream) as progress:
            progress.stage("s", 1)
            progress.update(1)
    assert "\x1b[" in live.getvalue()
    assert "\x1b" not in plain.getvalue()


def test_an_update_before_any_stage_is_a_mistake_of_the_caller() -> None:
    progress, _, _ = plain_progress()
    with progress, pytest.raises(RuntimeError, match="before stage"):
        progress.update(1)


def test_calls_from_many_threads_leave_whole_lines() -> None:
    progress, stream, _ = plain_progress()
    with progress:
        progress.stage("s", 1000)

        def speak(worker: int) -> None:
            for index in range(100):
                progress.say(f"worker {worker} line {index} end")
                progress.update(index)

        threads = [threading.Thread(target=speak, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    said = [line for line in stream.getvalue().splitlines() if line.startswith("worker")]
    assert len(said) == 400
    assert all(re.fullmatch(r"worker \d line \d+ end", line) for line in said)


def screen(output: str) -> list[str]:
    """What a terminal shows after this output: carriage return, newline, erase line and cursor up are obeyed."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.", output, re.DOTALL):
        if token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token.startswith("\x1b") and token.endswith("A"):
            row -= int(token[2:-1])
        elif not token.startswith("\x1b"):
            lines[row] = lines[row].ljust(column)[:column] + token + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_the_live_bar_shows_position_steps_figures_and_time_left_and_is_erased_when_the_stage_ends() -> None:
    console = Console(record=True, force_terminal=True, width=110, file=io.StringIO(), color_system=None)
    clock = Clock()
    with Progress(6, console=console, clock=clock) as progress:
        progress.skip_stage("cold_start", "reused")
        progress.stage("reasoning_rl", 120, first_step=11)
        clock.now += 5
        progress.update(12, reward=0.4125, tokens_per_s=900.0, note="[red]")
        progress.say("a line of [news]")
        progress._live._bar.refresh()  # type: ignore[union-attr]
        during = screen(console.file.getvalue())  # type: ignore[attr-defined]
        progress.stage("thinking_fusion", 50)
    told = [
        "stage 1/6 cold_start: reused",
        "stage 2/6 reasoning_rl: 120 steps, going on after step 11",
        "a line of [news]",
    ]
    assert during[:-1] == told
    assert re.fullmatch(
        r"stage 2/6 reasoning_rl ━+ +12/120 reward 0\.4125  tokens/s 900  note \[red\] +9m 00s left", during[-1]
    )
    assert screen(console.file.getvalue()) == [  # type: ignore[attr-defined]
        *told,
        "stage 2/6 reasoning_rl: done, 12 of 120 steps in 5s",
        "stage 3/6 thinking_fusion: 50 steps",
        "stage 3/6 thinking_fusion: done, 0 of 50 steps in 0s",
        "",
    ]


def test_stdout_is_left_alone_when_it_is_piped(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Terminal()
    with Progress(1, False, stream=stream) as progress:
        progress.stage("s", 1)
        print('{"result": 1}')
    assert capsys.readouterr().out == '{"result": 1}\n'
    assert "result" not in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (200, "3m 20s"),
        (3600, "1h 00m"),
        (7500, "2h 05m"),
        (273600, "3d 04h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_figures_keep_four_digits_and_never_hide_a_nan_or_a_gap() -> None:
    figures = {"reward": 0.41256, "loss": float("nan"), "tokens": 12345, "lr": 3e-06, "entropy": None, "big": 98765.4}
    assert format_figures(figures) == (
        "reward 0.4126  loss nan  tokens 12,345  lr 3e-06  entropy not measured  big 98,765"
    )


def test_a_stage_can_end_with_a_table_that_is_plain_text_in_a_log() -> None:
    table = Table(box=None)
    table.add_column("phase")
    table.add_row(Text("forward", style="bold red"))
    progress, stream, _ = plain_progress()
    with progress:
        progress.stage("cold_start", 2)
        progress.update(2)
        progress.end_stage(table)
    lines = stream.getvalue().splitlines()
    assert lines[-3] == "stage 1/2 cold_start: done, 2 of 2 steps in 0s"  # and the stage is not closed twice
    assert [line.strip() for line in lines[-2:]] == ["phase", "forward"]
    assert "\x1b" not in stream.getvalue()
    quiet, stream, _ = plain_progress(quiet=True)
    with quiet:
        quiet.end_stage(table)
    assert stream.getvalue() == ""


def test_on_a_terminal_the_table_stands_above_the_next_bar() -> None:
    terminal = Terminal()
    with Progress(1, console=Console(file=terminal, force_terminal=True, width=80)) as progress:
        progress.stage("base", 1)
        progress.update(1)
        progress.end_stage(Text("forward 40%"))
    text = terminal.getvalue()
    assert text.index("done, 1 of 1 steps") < text.index("forward 40%")
