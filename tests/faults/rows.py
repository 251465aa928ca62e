"""The faults that are tested, one line each: what goes wrong, what a user gets, the exit code.

Tests name the row that they are about (`@pytest.mark.fault(12)`); `docs/faults.md` is made from
this table and from what those tests gave. A row that cannot happen here says why.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A fault, the behaviour that is promised, and the exit code; `why_not`: why none is tested."""

    fault: str
    behaviour: str
    exit: str = "0"
    why_not: str = ""


ROWS: dict[int, Row] = {
    1: Row(
        "kill -9 while training",
        "the same command goes on where the cells were kept; weights and curves are those of an "
        "undisturbed run, bit for bit",
        "then 0",
    ),
    2: Row(
        "kill -9 while a checkpoint is written, at every write, fsync and rename",
        "the checkpoint before or the new one is there, whole; what was half written is removed",
        "then 0",
    ),
    3: Row(
        "SIGTERM",
        "within 10 s: runs end KILLED, where each cell was kept is said, and the command to go on",
        "143",
    ),
    4: Row("SIGINT once, twice", "as SIGTERM; the second ends at once, and it goes on", "130"),
    5: Row("SIGHUP: the terminal is closed", "as SIGTERM", "129"),
    6: Row("the parent dies, its workers are orphaned", "they end within seconds", "-"),
    7: Row(
        "the power fails: what was not flushed is lost",
        "as a kill while a checkpoint is written",
        "then 0",
    ),
    8: Row(
        "the disk is full when a checkpoint is written",
        "the one before stays, nothing half written stays; free and needed bytes are named",
        "6",
    ),
    9: Row(
        "the disk is full when an epoch is written down",
        "the command stops; no half line stays; it goes on when there is room",
        "6",
    ),
    10: Row(
        "less than twice the disk that training is likely to need",
        "refused before training; --force trains all the same",
        "6",
    ),
    11: Row("the results folder is read-only, or no folder", "refused before training", "6"),
    12: Row(
        "the last line of a cell's curves is half written",
        "it is left out and its epoch trained again",
    ),
    13: Row(
        "another line of a cell's curves is damaged",
        "refused, with file and line; --restart begins the cell anew",
        "5",
    ),
    14: Row(
        "a bit of a checkpoint flips",
        "the one before serves, with a note; where none is left: refused, --restart begins anew",
        "0 / 5",
    ),
    15: Row("a checkpoint is cut short, empty, a web page", "as a flipped bit", "0 / 5"),
    16: Row("a checkpoint is a pickle with code in it", "refused; nothing of it is run", "5"),
    17: Row(
        "a checkpoint of other settings, or of a newer harness",
        "refused, with the settings that differ; never loaded",
        "5",
    ),
    18: Row(
        "it goes on with another device or number of threads",
        "it goes on; runs are tagged with what differs, and the report says so",
    ),
    19: Row(
        "two processes, the same experiment",
        "cells are shared out and each is trained once: the second waits, naming the first; with "
        "--no-wait it leaves at once",
        "0 / 7",
    ),
    20: Row("a claim of a dead process", "is taken over"),
    21: Row(
        "a network disk without locks",
        "processes are looked up, those of other hosts by when they last touched their claim",
    ),
    22: Row(
        "the loss is NaN or infinite",
        "a result: the cell ends, its step is recorded, it scores at chance; the others go on",
        "8",
    ),
    23: Row("finite loss, a metric at chance to the end", "completes; the report says so"),
    24: Row("NaN in the data", "refused before training, with the row", "4"),
    25: Row(
        "memory runs out, of host or GPU",
        "the stack is split and goes on, never the batch; a cell alone is refused with advice",
        "0 / 6",
    ),
    26: Row("CUDA is asked for and there is none", "refused, with what to type", "6"),
    27: Row(
        "an operation without a deterministic kernel",
        "refused by name; --allow-nondeterministic trains and tags the run",
        "6",
    ),
    28: Row(
        "a data worker is killed, or hangs",
        "named, with advice on memory; it can be gone on with",
        "6",
    ),
    29: Row("Parquet missing, empty, cut short, a web page", "one sentence with the path", "4"),
    30: Row("a bit of a Parquet page flips", "refused: checksum mismatch", "4"),
    31: Row(
        "a Parquet column missing, of a wrong type, null, a label out of range",
        "refused, with what was expected and found, and the first bad row",
        "4",
    ),
    32: Row("a Parquet file that expands without end", "refused before memory is taken", "4"),
    33: Row("a PNG cut short, garbage, of another size, a bomb", "refused, with the row", "4"),
    34: Row("rows of the test set among the training rows", "said; --strict refuses", "0 / 4"),
    35: Row(
        "a download is blocked or not what it should be",
        "refused; nothing half-fetched stays; how to bring the files oneself",
        "4",
    ),
    36: Row(
        "the tracking server is down at the start",
        "said within 3 s; trains, prints the comparison, harness sync records it later; "
        "--require-tracking refuses",
        "0 / 10",
    ),
    37: Row(
        "the tracking server dies or hangs while training",
        "no step waits for it; what it lacks is kept, counted, and recorded exactly once",
    ),
    38: Row(
        "it answers 500, 401, or a redirect to another host",
        "as down; few requests, no token printed, no redirect followed",
    ),
    39: Row("a run left RUNNING by a crash", "the next start marks it KILLED"),
    40: Row(
        "SQLite is locked; a study exists with another space",
        "waits 20 s, then says so; the difference is shown",
        "7 / 3",
    ),
    41: Row(
        "an Optuna trial gives NaN, or its process is killed",
        "it scores at chance; the trial goes on under its own number",
    ),
    42: Row(
        "a name with ../, /, CON, nothing, 300 characters, NUL, bidi, emoji",
        "refused with what is valid; nothing is made outside the project",
        "3",
    ),
    43: Row("a link in the project that leads out of it", "refused", "3"),
    44: Row(
        "an unknown, mistyped or impossible setting",
        "refused, with a suggestion and what is valid, before anything starts",
        "3",
    ),
    45: Row(
        "YAML with objects, aliases, 50 MB, duplicate keys",
        "nothing reads YAML",
        "-",
        why_not="experiments and settings are Python and --set; no file of ours is YAML",
    ),
    46: Row(
        "a hypothesis is changed after results were seen",
        "its hash is on every run; the report says what was run otherwise than stated",
    ),
    47: Row(
        "names with HTML, LaTeX, CSV formulas, ANSI in a report",
        "escaped in each format; files parse; no script runs",
    ),
    48: Row(
        "a report of 1 seed, no pairs, unequal seeds, all diverged, constants",
        "renders; only pairs count; inconclusive where none do, with the reason; no small p from "
        "constants",
    ),
    49: Row("a report while runs are in progress", "says how many of how many are finished"),
    50: Row(
        "the clock jumps back, another time zone, a locale with comma decimals",
        "training times stay right; times are ISO-8601 in UTC; decimals have points",
    ),
    51: Row(
        "stdout closed, no terminal, 20 columns, a locale without UTF-8",
        "no traceback, nothing broken",
    ),
    52: Row(
        "fork after CUDA has started; spawn elsewhere",
        "no process is forked beside a GPU; workers come from a fork server",
    ),
}
