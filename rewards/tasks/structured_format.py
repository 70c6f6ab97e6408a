"""Write small records as a CSV file, a Markdown table, a YAML list or an XML document.

Area: format_following.
Reward type: rule.
Verified: the whole answer parses as the format and nothing else, and every cell holds the value it should, with its
type where the format has types.
Known hacks: prose or fences around the document for a lenient reader, cells that a reader coerces (`no`, `007`, 1.0) or
drops (Markdown: those beyond the header's), a repeated key or column of which a reader keeps the last, YAML aliases and
XML entities that unfold to gigabytes.
Guard: whole-answer parse, values compared exactly, cells counted, repeated keys refused, aliases, tags, entities and
attributes refused, and so are comments, directives and instructions; answers much longer than the right one refused
unread.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from data.chat import ParsedCompletion
from data.records import Score
from rewards.strict_json import strictly_equal
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

Record = Mapping[str, str | int]
"""Field to value; the order of the fields is the order of the columns."""

FORMATS = ("csv", "markdown", "xml", "yaml")
_NAMES = (
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jo", "Kim", "Lea", "Max", "Nora", "Otto", "Pia",
)  # fmt: skip
_FIELDS = ("age", "size", "score", "room", "seat", "year")
_CITIES = ("Rome", "Oslo", "Lima", "Cairo", "Quito", "Paris", "Delhi", "Seoul")
_TRICKY = (
    "no", "yes", "null", "007", "1.0", "true", "a, b", 'say "hi"', "x | y", "3 < 4", "salt & pepper", "# one",
    "on: off", "- dash", "2024-01-02", "*star*",
)  # fmt: skip
"""Texts that a careless writer of at least one of the formats gets wrong: types, separators, markup."""

_YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_UNESCAPED_PIPE = re.compile(r"(?<!\\)\|")
_XML_DECLARATION = re.compile(r"""\A<\?xml version=["']1\.0["'](?: encoding=["'](?:UTF|utf)-8["'])? ?\?>""")
_MAX_YAML_DEPTH = 2
"""A list of mappings. What is deeper is refused as it is read, before any of it is built."""


_ASKS = {
    "csv": "as CSV with a header line",
    "markdown": "as a Markdown table",
    "xml": "as XML: <rows>, in it one <row> per record with an element per field",
    "yaml": "as a YAML list of mappings",
}
_SHORT_ASKS = {"csv": "CSV with header", "markdown": "Markdown table", "xml": "XML (rows, row)", "yaml": "YAML list"}
_NUM_RECORDS = ((1, 1), (2, 3), (3, 5), (2, 4))


class _Unreadable(ValueError):
    """The answer is not one document of the format."""


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: one record of a name and a number. 1: two or three. 2: up to five with a city and a second number.

    Level 3 adds a text that looks like another type or holds a separator.
    """
    form = rng.choice(FORMATS)
    count = rng.randint(*_NUM_RECORDS[difficulty])
    numbers = rng.sample(_FIELDS, 1 if difficulty < 2 else 2)
    records = []
    for name in rng.sample(_NAMES, count):
        record: dict[str, str | int] = {"name": name}
        record |= {field: rng.randint(10, 99) for field in numbers}
        if difficulty >= 2:
            record["city"] = rng.choice(_CITIES)
        if difficulty == 3:
            record["note"] = rng.choice(_TRICKY)
        records.append(record)
    if difficulty == 0:
        listed = ", ".join(f"{field} {value}" for field, value in records[0].items())
        question = f"{_SHORT_ASKS[form]}: {listed}."
    else:
        listed = "\n".join(
            "; ".join(f"{field}: {_shown(value)}" for field, value in record.items()) for record in records
        )
        question = f"Write these records {_ASKS[form]}, and nothing else. Fields in this order:\n{listed}"
        question += "\nTexts are in quotation marks, which are not part of them."
    reference = {"format": form, "records": records}
    return TaskItem(({"role": "user", "content": question},), reference, domain="structured_output")


def _shown(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f"“{value}”"


def write(form: str, records: Sequence[Record]) -> str:
    """The records in a format. Raises KeyError for one that does not exist."""
    return {"csv": _write_csv, "markdown": _write_markdown, "xml": _write_xml, "yaml": _write_yaml}[form](records)


def _write_csv(records: Sequence[Record]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([list(records[0]), *(record.values() for record in records)])
    return out.getvalue().rstrip("\n")


def _write_markdown(records: Sequence[Record]) -> str:
    def cell(value: str | int) -> str:
        return "".join(f"\\{character}" if character in "|*<&\\" else character for character in str(value))

    rows = [list(records[0]), ["---"] * len(records[0]), *([cell(value) for value in row.values()] for row in records)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def _write_xml(records: Sequence[Record]) -> str:
    rows = ["".join(f"<{field}>{escape(str(value))}</{field}>" for field, value in row.items()) for row in records]
    return "<rows>" + "".join(f"<row>{row}</row>" for row in rows) + "</rows>"


def _write_yaml(records: Sequence[Record]) -> str:
    def scalar(value: str | int) -> str:
        plain = isinstance(value, int) or (value.isascii() and value.isalpha() and value.lower() not in _YAML_WORDS)
        return str(value) if plain else json.dumps(value)

    lines = []
    for record in records:
        fields = [f"{field}: {scalar(value)}" for field, value in record.items()]
        lines.append("- " + "\n  ".join(fields))
    return "\n".join(lines)


def _read_csv(text: str) -> list[dict[str, Any]]:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise _Unreadable(str(error)) from None
    return _keyed(rows)


def _keyed(rows: list[list[str]]) -> list[dict[str, Any]]:
    if not rows or len(set(rows[0])) != len(rows[0]):
        raise _Unreadable("no header, or a column twice")
    if any(len(row) != len(rows[0]) for row in rows):
        raise _Unreadable("a row of another length than the header")
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


@functools.cache
def _table_parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _read_markdown(text: str) -> list[dict[str, Any]]:
    tokens = _table_parser().parse(text)
    if not tokens or tokens[0].type != "table_open" or tokens[-1].type != "table_close":
        raise _Unreadable("not a table alone")
    # The reader drops cells beyond the header's without a word, so that they are counted before.
    if len({len(_UNESCAPED_PIPE.findall(line.strip().strip("|"))) for line in text.splitlines()}) != 1:
        raise _Unreadable("a row of another length than the header")
    rows: list[list[str]] = []
    for token in tokens[1:-1]:
        if token.type in ("table_open", "table_close"):
            raise _Unreadable("two tables")
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            children = token.children or []
            if any(child.type not in ("text", "text_special") for child in children):
                raise _Unreadable("markup inside a cell")
            rows[-1].append("".join(child.content for child in children))
    return _keyed(rows)


def _read_xml(text: str) -> list[dict[str, Any]]:
    from xml.etree.ElementTree import ParseError

    from defusedxml import ElementTree
    from defusedxml.common import DefusedXmlException

    if "<!" in text or "<?" in _XML_DECLARATION.sub("", text):
        raise _Unreadable("comments, CDATA, instructions and declarations are not part of the format")
    try:
        root = ElementTree.fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise _Unreadable(f"{type(error).__name__}: {error}") from None
    records: list[dict[str, Any]] = []
    if root.tag != "rows" or any(row.tag != "row" for row in root):
        raise _Unreadable("not a <rows> of <row>")
    for element in root.iter():
        if element.attrib or (element.tail or "").strip() or (len(element) and (element.text or "").strip()):
            raise _Unreadable("attributes, or text between elements")
    for row in root:
        if len({cell.tag for cell in row}) != len(row) or any(len(cell) for cell in row):
            raise _Unreadable("a field twice, or an element inside a field")
        records.append({cell.tag: cell.text or "" for cell in row})
    return records


@functools.cache
def _yaml_loader() -> type:
    import yaml

    class StrictLoader(yaml.SafeLoader):
        """Plain YAML: no comments, no directives, no aliases, no anchors, no tags, no merge keys, no key twice."""

        depth = 0

        def scan_to_next_token(self) -> None:
            self.refuse_comment(super().scan_to_next_token)

        def scan_block_scalar_ignored_line(self, start_mark: Any) -> None:
            self.refuse_comment(super().scan_block_scalar_ignored_line, start_mark)

        def refuse_comment(self, skip: Callable[..., None], *arguments: Any) -> None:
            start = self.pointer
            skip(*arguments)
            if "#" in self.buffer[start : self.pointer]:  # what the reader skips may hold any prose
                raise _Unreadable("comments are not part of the format")

        def scan_directive(self) -> Any:
            raise _Unreadable("directives are not part of the format")

        def fetch_flow_collection_start(self, token_class: Any) -> None:
            if self.flow_level >= _MAX_YAML_DEPTH:  # the scanner runs far ahead of the reader, in quadratic time
                raise _Unreadable("deeper than a list of mappings")
            super().fetch_flow_collection_start(token_class)

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            event = self.peek_event()
            if isinstance(event, yaml.AliasEvent) or event.anchor or getattr(event, "tag", None):
                raise _Unreadable("aliases, anchors and tags are not part of the format")
            if self.depth > _MAX_YAML_DEPTH + 1:
                raise _Unreadable("deeper than a list of mappings")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            if not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys) or "<<" in keys:
                raise _Unreadable("a key that is no text, or a key twice")
            return dict(super().construct_mapping(node, deep=deep))

    return StrictLoader


def _read_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.load(text, Loader=_yaml_loader())  # a SafeLoader with less in it
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise _Unreadable(f"{type(error).__name__}: {error}") from None


_READERS: Mapping[str, Callable[[str], Any]] = {
    "csv": _read_csv, "markdown": _read_markdown, "xml": _read_xml, "yaml": _read_yaml,
}  # fmt: skip


def answer(item: TaskItem) -> str:
    """The records in their format."""
    return write(item.reference["format"], item.reference["records"])


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Name the format and the fields, then write; a wrong step takes another format or a number that is 1 off."""
    form, records = item.reference["format"], [dict(record) for record in item.reference["records"]]
    if rng.random() < error_rate:
        form = rng.choice([other for other in FORMATS if other != form])
    for record in records:
        if rng.random() < error_rate:
            number = next(field for field, value in record.items() if isinstance(value, int))
            record[number] += 1
    return Worked(f"{form}: {', '.join(records[0])}; {len(records)}", write(form, records))


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Length, parse, then the records in order. An unknown format in the reference raises KeyError."""
    reference = request.reference
    read, records = _READERS[reference["format"]], reference["records"]
    text = parsed.answer.strip()
    if len(text) > 300 + 6 * len(write("xml", records)):
        return Score.incorrect("far longer than the records are")
    try:
        found = read(text)
    except _Unreadable as error:
        return Score.incorrect(f"not one {reference['format']} document: {error}")
    typed = reference["format"] == "yaml"
    wanted = [dict(record) if typed else {key: str(value) for key, value in record.items()} for record in records]
    if not strictly_equal(found, wanted):
        return Score.incorrect("the records differ")
    if [list(record) for record in found] != [list(record) for record in wanted]:
        return Score.incorrect("the fields are in another order")
    return Score.correct()


_RECORDS: list[Record] = [{"name": "Ada", "age": 34}, {"name": "Ben", "age": 27}]
_TYPED: list[Record] = [{"name": "no", "age": 34}]


def _example(completion: str, note: str, form: str, records: list[Record] = _RECORDS) -> Example:
    return Example(completion, {"format": form, "records": records}, note=note)


_BOMB = "a: &a [1,1]\nb: &b [*a,*a]\nc: [*b,*b]"
_ENTITIES = '<!DOCTYPE rows [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><rows><row><name>&b;</name></row></rows>'
_TABLE = "| name | age |\n| --- | --- |\n| Ada | 34 |\n| Ben | 27 |"
_XML = "<rows><row><name>Ada</name><age>34</age></row><row><name>Ben</name><age>27</age></row></rows>"

TASK = Task(
    name="structured_format",
    area="format_following",
    reward_type="rule",
    summary="records as CSV, Markdown table, YAML or XML",
    hack="prose, fences, coerced cells, repeated keys, alias and entity bombs",
    guard="whole-answer parse, exact typed cells, no repeats, no aliases, tags or entities",
    generate=generate,
    max_difficulty=len(_NUM_RECORDS) - 1,
    verify=verify,
    reference_keys=("format", "records"),
    answer=answer,
    work=work,
    fragments=("name,age", "| name |", "---", "<rows>", "</rows>", "- name: ", "&a ", "*a", "<!DOCTYPE", '"', ","),
    known_good=(
        _example("<think>\ncsv\n</think>\n\nname,age\nAda,34\nBen,27", "CSV after thinking", "csv"),
        _example('"name","age"\r\n"Ada","34"\r\n"Ben","27"', "quoted CSV", "csv"),
        _example(_TABLE, "table", "markdown"),
        _example("name|age\n:--|--:\nAda|34\nBen|27", "table without outer pipes", "markdown"),
        _example("- {name: Ada, age: 34}\n- {name: Ben, age: 27}", "flow YAML", "yaml"),
        _example('- name: "no"\n  age: 34', "quoted text that looks like a boolean", "yaml", _TYPED),
        _example(_XML.replace("><", ">\n<"), "XML on several lines", "xml"),
    ),
    known_bad=(
        _example("```\nname,age\nAda,34\nBen,27\n```", "fence", "csv"),
        _example("Here it is:\nname,age\nAda,34\nBen,27", "prose", "csv"),
        _example("name,age\nAda,34\nBen,27,x", "a cell too many", "csv"),
        _example("name,age,age\nAda,0,34\nBen,0,27", "a column twice", "csv"),
        _example("name;age\nAda;34\nBen;27", "another separator", "csv"),
        _example("age,name\n34,Ada\n27,Ben", "another order", "csv"),
        _example("name,age\nAda,34.0\nBen,27", "another number format", "csv"),
        _example(_TABLE + " 28 |", "a cell beyond the header", "markdown"),
        _example(_TABLE + "\n\nDone.", "prose after the table", "markdown"),
        _example(_TABLE.replace("Ada", "**Ada**"), "markup in a cell", "markdown"),
        _example(_TABLE + "\n\n" + _TABLE, "two tables", "markdown"),
        _example("name,age\nAda,34\nBen,27", "another format", "markdown"),
        _example("- name: no\n  age: 34", "text that turns into a boolean", "yaml", _TYPED),
        _example('- name: Ada\n  age: "34"\n- name: Ben\n  age: 27', "text for a number", "yaml"),
        _example("- name: Ben\n  name: Ada\n  age: 34\n- name: Ben\n  age: 27", "a key twice", "yaml"),
        _example("- &a {name: Ada, age: 34}\n- {name: Ben, age: 27}", "an anchor", "yaml"),
        _example(_BOMB, "alias bomb", "yaml"),
        _example("# Here it is:\n- {name: Ada, age: 34}\n- {name: Ben, age: 27}", "prose in a comment", "yaml"),
        _example("%Here it is\n---\n- {name: Ada, age: 34}\n- {name: Ben, age: 27}", "prose in a directive", "yaml"),
        _example("- !!python/object/apply:os.system ['true']", "a tag that runs code", "yaml"),
        _example("[" * 400, "brackets without end", "yaml"),
        _example(_ENTITIES, "entity bomb", "xml"),
        _example(_XML.replace("<row>", '<row id="1">', 1), "an attribute", "xml"),
        _example(_XML + "<rows></rows>", "two roots", "xml"),
        _example(_XML.replace("34", "34<!-- 35 -->"), "a comment", "xml"),
        _example(f"<?note here it is?>{_XML}", "prose in an instruction", "xml"),
        _example("<rows>" * 5000, "tags without end", "xml"),
        _example("<think>\nname,age\nAda,34\nBen,27", "answer inside unfinished thinking", "csv"),
    ),
)
