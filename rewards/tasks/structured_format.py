"""Write small records as CSV, a Markdown table, YAML or XML, with every cell as it was given.

Area: instruction_following. Reward type: rule.
Verified: the whole answer is one document of the asked format, with the asked fields in order (any order in YAML), the
records in order, and cells that equal the reference; in YAML numbers are numbers and texts are texts.
Known hacks: fences and prose around the document, empty cells or a header alone, surplus cells that Markdown readers
drop, comments, repeated keys, aliases and entities that grow without end, `no` and `007` left for YAML to read.
Guard: size cap before parsing; strict CSV; cell count of each Markdown line; YAML without comments, anchors, tags and
repeated keys; XML without DTD, comments, attributes or stray text.
"""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Sequence
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.people import NAMES
from rewards.strict_json import strictly_equal
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

_LEVEL_FORMATS = (("csv",), ("csv", "markdown"), ("csv", "markdown", "yaml", "xml"), ("csv", "markdown", "yaml", "xml"))
_LEVEL_RECORDS = ((1, 2), (2, 3), (2, 3), (4, 6))
_TINY_FIELDS = ("age", "size", "points", "score")
_TEXT_FIELDS = {
    "city": ("Bern", "Cork", "Lima", "Oslo", "Turin", "Vigo"),
    "color": ("black", "blue", "green", "red", "white", "yellow"),
    "food": ("bread", "cheese", "plum cake", "rice", "soup", "tea"),
}
_TRICKY = {
    "csv": ("red, blue", 'the "old" one', "a; b, c", "5, 6"),
    "markdown": ("left | right", "a|b", "yes | no", "1 | 2"),
    "yaml": ("no", "007", "a: b", "true", "1e3", "null", "- x", "12:30"),
    "xml": ("fish & chips", "a < b", "x > y & z", "<b>", "R&D"),
}
"""Texts that a format needs quoting or escaping for."""

_ASKS = {
    "csv": "CSV with a header line",
    "markdown": "a Markdown table",
    "yaml": "YAML: a list of mappings, in which only numbers that are not quoted here are numbers",
    "xml": "XML: a root <records> with one <record> for each, which holds one element for each column",
}


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: CSV of one or two records with two columns. Level 1: CSV or Markdown, two or three columns.

    Level 2 adds YAML, XML and texts that need quoting. Level 3: four to six records of four columns.
    """
    form = rng.choice(_LEVEL_FORMATS[difficulty])
    num_records = rng.randint(*_LEVEL_RECORDS[difficulty])
    names = rng.sample(NAMES, num_records)
    number = rng.choice(_TINY_FIELDS)
    columns: dict[str, list[Any]] = {"name": names, number: [rng.randint(1, 99) for _ in names]}
    if difficulty == 0:
        columns[number] = [rng.randint(1, 9) for _ in names]
    else:
        num_texts = rng.randint(0, 1) if difficulty == 1 else difficulty - 1
        for field in rng.sample(sorted(_TEXT_FIELDS), num_texts):
            columns[field] = [rng.choice(_TEXT_FIELDS[field]) for _ in names]
    if difficulty >= 2:
        columns["note"] = [rng.choice(_TRICKY[form]) for _ in names]
        del columns[number if difficulty == 2 and rng.random() < 0.3 else rng.choice(list(columns)[2:-1])]
    fields = rng.sample(list(columns), len(columns))
    rows = [[columns[field][index] for field in fields] for index in range(num_records)]
    reference = {"format": form, "fields": fields, "rows": rows}
    return TaskItem(({"role": "user", "content": _question(reference, difficulty)},), reference, domain=form)


def _question(reference: dict[str, Any], difficulty: int) -> str:
    fields, rows = reference["fields"], reference["rows"]
    if difficulty == 0:
        listed = ", ".join(" ".join(map(str, sorted(row, key=lambda cell: isinstance(cell, int)))) for row in rows)
        return f"Write as CSV with the header {' and '.join(fields)}: {listed}."
    listed = "\n".join(
        "; ".join(f"{field} = {_shown(cell)}" for field, cell in sorted(zip(fields, row, strict=True))) for row in rows
    )
    return (
        f"Write these records as {_ASKS[reference['format']]}. Columns in this order: {', '.join(fields)}. "
        f"Reply with nothing else, without a code fence.\n{listed}"
    )


def _shown(cell: Any) -> str:
    return f"'{cell}'" if isinstance(cell, str) else str(cell)


def answer(item: TaskItem) -> str:
    """The records in the asked format."""
    return _written(item.reference["format"], item.reference["fields"], item.reference["rows"])


def _written(form: str, fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if form == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([fields, *rows])
        return out.getvalue().strip()
    if form == "markdown":
        lines = [
            list(fields),
            ["---"] * len(fields),
            *[[str(cell).replace("|", "\\|") for cell in row] for row in rows],
        ]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    if form == "yaml":
        import yaml

        return yaml.safe_dump([dict(zip(fields, row, strict=True)) for row in rows], sort_keys=False).strip()
    records = (
        "".join(f"<{field}>{_escaped(cell)}</{field}>" for field, cell in zip(fields, row, strict=True)) for row in rows
    )
    return "\n".join(["<records>", *(f"<record>{record}</record>" for record in records), "</records>"])


def _escaped(cell: Any) -> str:
    return str(cell).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Header and size in one line, then the document; a wrong step loses a record or changes a cell."""
    reference = item.reference
    form, fields, rows = reference["format"], reference["fields"], [list(row) for row in reference["rows"]]
    if rng.random() < error_rate:
        rows.pop()
    for row in rows:
        if rng.random() < error_rate:
            place = rng.randrange(len(row))
            row[place] = row[place] + 1 if isinstance(row[place], int) else f"{row[place]}s"
    return Worked(f"{', '.join(fields)}; {len(rows)} rows", _written(form, fields, rows))


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Size, then the whole answer through the reader of its format. KeyError for a format that does not exist."""
    reference = request.reference
    form, fields, rows = reference["format"], list(reference["fields"]), [list(row) for row in reference["rows"]]
    read = _READERS[form]
    text = parsed.answer.strip()
    if len(text) > 4 * len(_written(form, fields, rows)) + 200:
        return Score.incorrect("too long for these records")
    try:
        found = read(text, len(fields))
    except _NotOneDocument as error:
        return Score.incorrect(f"answer is not one {form} document: {error}")
    expected: list[Any] = [fields, *[[str(cell) for cell in row] for row in rows]]
    if form == "yaml":
        expected = [dict(zip(fields, row, strict=True)) for row in rows]
    return Score.correct() if strictly_equal(found, expected) else Score.incorrect("other fields, records or cells")


class _NotOneDocument(ValueError):
    """The policy's text is not one document of the asked format."""


def _read_csv(text: str, _: int) -> list[Any]:
    try:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise _NotOneDocument(str(error)) from None


def _read_markdown(text: str, num_fields: int) -> list[Any]:
    from markdown_it import MarkdownIt

    lines = text.split("\n")
    for line in lines:  # readers drop surplus cells without a word, and fill missing ones
        cells = re.findall(r"(?<!\\)\|", line.strip().removeprefix("|"))
        if len(cells) - (re.search(r"(?<!\\)\|$", line.strip()) is not None) != num_fields - 1:
            raise _NotOneDocument("a line has more or fewer cells than columns")
    tokens = MarkdownIt("zero").enable("table").parse(text)
    if not tokens or tokens[0].type != "table_open" or tokens[-1].type != "table_close":
        raise _NotOneDocument("no table, or something beside it")
    if sum(token.type == "table_open" for token in tokens) != 1:
        raise _NotOneDocument("several tables")
    cells = [token.content for token in tokens if token.type == "inline"]
    table = [cells[start : start + num_fields] for start in range(0, len(cells), num_fields)]
    if len(table) + 1 != len(lines):
        raise _NotOneDocument("lines that belong to no row")
    return table


def _read_yaml(text: str, _: int) -> Any:
    import yaml

    if "#" in text or re.search(r"^%", text, re.MULTILINE):  # readers skip both, whatever they say
        raise _NotOneDocument("a comment or a directive")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):  # a stream, so that this ends before anything is built
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise _NotOneDocument("an anchor, an alias or a tag")
            if depth > 2:
                raise _NotOneDocument("deeper than a list of mappings")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        for node in root.value if isinstance(root, yaml.SequenceNode) else ():
            keys = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
            if len(set(map(str, keys))) != len(keys):
                raise _NotOneDocument("a mapping repeats a key")
        return yaml.safe_load(text)
    except (yaml.YAMLError, OverflowError, RecursionError) as error:
        raise _NotOneDocument(type(error).__name__) from None
    except ValueError as error:  # a date or a number that YAML sees and Python refuses
        raise error if isinstance(error, _NotOneDocument) else _NotOneDocument("a value that cannot be") from None


def _read_xml(text: str, _: int) -> list[Any]:
    from xml.etree.ElementTree import ParseError

    from defusedxml import ElementTree

    body = re.sub(r'\A<\?xml version="1\.0"(?: encoding="(?:UTF|utf)-8")?\s{0,9}\?>', "", text).lstrip()
    if "<!" in body or "<?" in body:
        raise _NotOneDocument("a comment, an instruction, a DTD or CDATA")
    try:
        root = ElementTree.fromstring(body, forbid_dtd=True)
    except (ParseError, ValueError):  # defusedxml's own refusals are ValueErrors
        raise _NotOneDocument("not well-formed") from None
    records = list(root)
    inner = [element for record in records for element in record]
    branches = [root, *records]
    if root.tag != "records" or any(record.tag != "record" for record in records):
        raise _NotOneDocument("root or record has another name")
    if any(element.attrib for element in [*branches, *inner]) or any(len(element) for element in inner):
        raise _NotOneDocument("attributes, or elements inside a cell")
    strays = [*(branch.text for branch in branches), *(element.tail for element in [*records, *inner])]
    if any(stray and stray.strip() for stray in strays):
        raise _NotOneDocument("text outside the cells")
    headers = {tuple(element.tag for element in record) for record in records}
    if len(headers) != 1:
        raise _NotOneDocument("records with different fields")
    return [list(headers.pop()), *[[element.text or "" for element in record] for record in records]]


_READERS = {"csv": _read_csv, "markdown": _read_markdown, "yaml": _read_yaml, "xml": _read_xml}

_ROWS = {"fields": ["name", "age"], "rows": [["Ada", 7], ["Ben", 9]]}
_CSV, _MARKDOWN, _YAML, _XML = ({"format": form, **_ROWS} for form in ("csv", "markdown", "yaml", "xml"))
_NORWAY = {"format": "yaml", "fields": ["name", "note"], "rows": [["Ada", "no"]]}
_CSV_TEXT = "name,age\nAda,7\nBen,9"
_TABLE = "| name | age |\n|---|---|\n| Ada | 7 |\n| Ben | 9 |"
_YAML_TEXT = "- name: Ada\n  age: 7\n- name: Ben\n  age: 9"
_XML_TEXT = (
    "<records><record><name>Ada</name><age>7</age></record><record><name>Ben</name><age>9</age></record></records>"
)
_BOMB = "".join(f'<!ENTITY a{n} "&a{n - 1};&a{n - 1};&a{n - 1};">' for n in range(1, 5))

TASK = Task(
    name="structured_format",
    area="instruction_following",
    reward_type="rule",
    summary="small records as CSV, a Markdown table, YAML or XML",
    hack="fences, prose, empty cells, surplus cells, comments, repeated keys, aliases, entities",
    guard="whole-answer strict reading and cells that equal the reference",
    generate=generate,
    max_difficulty=len(_LEVEL_FORMATS) - 1,
    verify=verify,
    reference_keys=("format", "fields", "rows"),
    answer=answer,
    work=work,
    fragments=("name,age\n", "Ada,7", "| name |", "|---|---|", "- name: ", "&a", "*a", "<records>", "</record>", "```"),
    known_good=(
        Example(f"<think>\n2 rows\n</think>\n\n{_CSV_TEXT}\n", _CSV, note="CSV after thinking"),
        Example('"name","age"\r\n"Ada","7"\r\n"Ben","9"', _CSV, note="CSV quoted"),
        Example(_TABLE, _MARKDOWN, note="Markdown"),
        Example("name | age\n:-- | --:\nAda | 7\nBen | 9", _MARKDOWN, note="Markdown without outer bars"),
        Example(_YAML_TEXT, _YAML, note="YAML"),
        Example("[{age: 7, name: Ada}, {name: 'Ben', age: 9}]", _YAML, note="YAML flow style"),
        Example("- name: Ada\n  note: 'no'", _NORWAY, note="YAML quoted no"),
        Example(f'<?xml version="1.0" encoding="UTF-8"?>\n{_XML_TEXT}', _XML, note="XML declaration"),
    ),
    known_bad=(
        Example("", _CSV, note="empty"),
        Example(f"```csv\n{_CSV_TEXT}\n```", _CSV, note="CSV in a fence"),
        Example(f"Here it is:\n{_CSV_TEXT}", _CSV, note="prose before CSV"),
        Example("name,age", _CSV, note="header alone"),
        Example("Ada,7\nBen,9", _CSV, note="no header"),
        Example("name,age\n,\n,", _CSV, note="empty cells"),
        Example("name,age\nBen,9\nAda,7", _CSV, note="records in another order"),
        Example("name,age\nAda,7,x\nBen,9,y", _CSV, note="surplus CSV cells"),
        Example("name, age\nAda, 7\nBen, 9", _CSV, note="blanks inside cells"),
        Example('name,age\nAda,"7\nBen,9', _CSV, note="quote never closes"),
        Example(_TABLE, _CSV, note="another format"),
        Example(_TABLE.replace("7 |", "7 | 8 |"), _MARKDOWN, note="surplus Markdown cell"),
        Example(f"{_TABLE}\n\nDone.", _MARKDOWN, note="prose after the table"),
        Example(_TABLE.replace("|---|---|\n", ""), _MARKDOWN, note="no separator line"),
        Example(_TABLE.replace("Ada", "**Ada**"), _MARKDOWN, note="markup in a cell"),
        Example(f"{_YAML_TEXT} # as asked", _YAML, note="YAML comment"),
        Example(f"%Here you are\n---\n{_YAML_TEXT}", _YAML, note="YAML directive with prose"),
        Example(_YAML_TEXT.replace("age: 7", "age: 8\n  age: 7"), _YAML, note="YAML repeated key"),
        Example("- &a {name: Ada, age: 7}\n- {<<: *a, name: Ben, age: 9}", _YAML, note="YAML alias"),
        Example("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]", _YAML, note="YAML alias bomb"),
        Example("- name: Ada\n  note: no", _NORWAY, note="YAML false for a text"),
        Example(_YAML_TEXT.replace("7", "'7'"), _YAML, note="YAML text for a number"),
        Example(f"{_YAML_TEXT}\n---\n{_YAML_TEXT}", _YAML, note="two YAML documents"),
        Example("- name: !!python/name:os.system\n  age: 7", _YAML, note="YAML tag that runs code"),
        Example("[" * 400, _YAML, note="YAML deep brackets"),
        Example(f"{_XML_TEXT}<!-- done -->", _XML, note="XML comment"),
        Example(f'<!DOCTYPE r [<!ENTITY a0 "x">{_BOMB}]><records>&a4;</records>', _XML, note="XML entity bomb"),
        Example(_XML_TEXT.replace("</record><", "</record>text<"), _XML, note="XML stray text"),
        Example(_XML_TEXT.replace("<age>", '<age unit="y">'), _XML, note="XML attribute"),
        Example("<a>" * 150, _XML, note="XML deep and never closed"),
        Example(f"<think>\n{_CSV_TEXT}", _CSV, note="answer inside unfinished thinking"),
    ),
)
