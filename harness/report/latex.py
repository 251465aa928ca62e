"""The report as LaTeX: a booktabs table, the verdict sentence and the caveats.

What comes in: `Summary` values. What goes out: a document that compiles alone with pdfLaTeX,
XeLaTeX or LuaLaTeX, and that another document can `\\input` as it is. The guarantee: everything a
person typed is literal text, whatever it holds; a character that not every engine can set is
written as its code point.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.report.headline import claim_words, smallest_text
from harness.report.notices import divergence_text, forecast_text, look_text, partial_text
from harness.report.overview import Item, overview, title
from harness.report.tables import Table, results_table
from harness.report.tuned import fairness, tuning_table
from harness.report.wording import clean

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.tracking import ComparisonData

LONG = 24
"""A longer word may be broken, in pieces of half this many characters."""

HEAD = r"""
% Compile this file alone, or read it into a document with \usepackage{booktabs}:
%     \input{this-file}
% There \begin{document} has run already, and the preamble below is skipped.
\expandafter\ifx\csname @nodocument\endcsname\relax
  \let\HarnessEnd\relax
\else
  \def\HarnessEnd{\end{document}}
  \documentclass{article}
  \usepackage[T1]{fontenc}
  \IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
  \usepackage[margin=25mm]{geometry}
  \usepackage{booktabs}
  \pagestyle{empty}
  \setlength{\parindent}{0pt}
  \begin{document}
\fi
"""
FOOT = "\\HarnessEnd\n"


def as_latex(summary: Summary, data: ComparisonData) -> bytes:
    """The table of one comparison, its verdict and its caveats."""
    name = f"{summary.experiment} on {summary.dataset.name}"
    return _document(name, [_body(summary, data)])


def as_latex_list(items: Sequence[Item]) -> bytes:
    """Several comparisons, under a table of what each found."""
    rows = tuple(
        (each.question, f"{each.symbol} {each.words}", each.difference, str(each.n), each.data)
        for each in overview(items)
    )
    columns = ("experiment", "verdict", "difference", "n", "data")
    listed = Table(title(items), columns, rows, frozenset({0, 1, 2, 4}))
    bodies = [
        f"\\subsection*{{{latex(summary.question)}}}\n\n{_body(summary, data)}"
        for summary, data in items
    ]
    return _document(title(items), [_table(listed), *bodies])


def latex(text: object) -> str:
    """`text` as literal text in LaTeX, in text mode and in any cell of a table."""
    bare = clean(text)
    words = re.sub(r"\S+", lambda word: _breakable(word.group()), bare)
    return "".join(BREAK if each == "\0" else _escaped(each) for each in _unligatured(words))


def _document(name: str, parts: Sequence[str]) -> bytes:
    return "\n".join([f"% {clean(name)}{HEAD}", *(f"{part}\n" for part in parts), FOOT]).encode()


def _body(summary: Summary, data: ComparisonData) -> str:
    results = results_table(summary)
    caption = f"{summary.question} {results.caption}, {summary.dataset.name}."
    parts = [_table(replace(results, caption=caption))]
    if claim := summary.claim:
        words = claim_words(claim)
        effect = smallest_text(summary, claim.smallest_effect)
        parts.append(
            rf"\textbf{{{latex(words[:1].upper() + words[1:])}.}} Claim: {latex(claim.hypothesis)} "
            f"Smallest effect: {latex(effect)}. {latex(forecast_text(summary))}".rstrip()
        )
    if summary.partial:
        parts.append(rf"\textbf{{Partial: {latex(partial_text(summary))}.}}")
    parts.append(rf"\textbf{{{latex(summary.headline)}}} {latex(summary.condition)}")
    parts += [latex(line) for line in (divergence_text(summary), look_text(summary)) if line]
    if summary.tuning:
        parts += [latex(each) for each in fairness(summary, summary.tuning)]
        parts.append(_table(tuning_table(summary, summary.tuning)))
    if summary.caveats:
        points = "\n".join(rf"  \item {latex(each)}" for each in summary.caveats)
        parts.append(f"Caveats:\n\\begin{{itemize}}\n{points}\n\\end{{itemize}}")
    made = summary.reproduce
    origin = [f"% command     {made.command}", f"% commit      {made.git or 'unknown'}"]
    origin.append(f"% comparison  {data.run_id}")
    return "\n".join([*map(clean, origin), "\n\n".join(parts)])


def _table(table: Table) -> str:
    long = {
        place
        for place in table.text
        if max(len(row[place]) for row in [table.columns, *table.rows]) > LONG
    }
    # the other columns take about a tenth of the line each
    width = round(max(0.18, (0.94 - 0.1 * (len(table.columns) - len(long))) / max(1, len(long))), 2)
    kinds = "".join(
        rf"p{{{width}\linewidth}}" if place in long else "l" if place in table.text else "r"
        for place in range(len(table.columns))
    )
    head, *rows = (
        " & ".join(latex(cell) for cell in row) + r" \\" for row in [table.columns, *table.rows]
    )
    lines = [
        r"\begin{table}[!htbp]",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{latex(table.caption)}}}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        head,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _breakable(word: str) -> str:
    """`word` with a NUL (which `clean` leaves none of) where a line may end."""
    if len(word) <= LONG:
        return word
    return "\0".join(word[at : at + LONG // 2] for at in range(0, len(word), LONG // 2))


def _unligatured(text: str) -> list[str]:
    """Characters, an empty one between two that a font would draw as another one."""
    apart = re.sub(r"(?<=[-'`,])(?=[-'`,])|(?<=[?!])(?=`)", "\1", text)
    return ["" if each == "\1" else each for each in apart]


def _escaped(character: str) -> str:
    if not character:
        return "{}"
    if character in LATEX:
        return LATEX[character]
    if character.isascii():
        return character
    return character if character in LETTERS else rf"\texttt{{U+{ord(character):04X}}}"


LETTERS = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ")
"""What every engine sets in every font; of the rest none has all."""
BREAK = r"\hspace{0pt}"
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ it would begin an argument
    "]": "{]}",
    "*": "{*}",  # so would this
    '"': r"\symbol{34}",  # babel gives it a meaning in some languages
    "\N{MINUS SIGN}": r"\ensuremath{-}",
    "\N{EN DASH}": r"\textendash{}",
    "\N{EM DASH}": r"\textemdash{}",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{LEFT SINGLE QUOTATION MARK}": r"\textquoteleft{}",
    "\N{RIGHT SINGLE QUOTATION MARK}": r"\textquoteright{}",
    "\N{LEFT DOUBLE QUOTATION MARK}": r"\textquotedblleft{}",
    "\N{RIGHT DOUBLE QUOTATION MARK}": r"\textquotedblright{}",
    "\N{PLUS-MINUS SIGN}": r"\ensuremath{\pm}",
    "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
    "\N{LESS-THAN OR EQUAL TO}": r"\ensuremath{\leq}",
    "\N{GREATER-THAN OR EQUAL TO}": r"\ensuremath{\geq}",
    "\N{ALMOST EQUAL TO}": r"\ensuremath{\approx}",
    "\N{RIGHTWARDS ARROW}": r"\ensuremath{\rightarrow}",
    "\N{GREEK SMALL LETTER ALPHA}": r"\ensuremath{\alpha}",
    "\N{GREEK SMALL LETTER BETA}": r"\ensuremath{\beta}",
    "\N{GREEK SMALL LETTER EPSILON}": r"\ensuremath{\epsilon}",
    "\N{GREEK SMALL LETTER LAMDA}": r"\ensuremath{\lambda}",
    "\N{GREEK SMALL LETTER MU}": r"\ensuremath{\mu}",
    "\N{GREEK SMALL LETTER SIGMA}": r"\ensuremath{\sigma}",
    "\N{CHECK MARK}": r"\ensuremath{\surd}",
    "\N{BALLOT X}": r"\ensuremath{\times}",
}
