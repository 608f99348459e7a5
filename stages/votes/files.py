"""Files of raw votes: the rows of any container, one at a time, each value as it is written."""

import csv
import gzip
import io
import json
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.config.errors import UserError

TEXTS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
PACKED = (".gz", ".zip")
TABLES = (".parquet", ".arrow")
KNOWN = f"{', '.join(TEXTS)}, each also as {' or '.join(PACKED)}, {', '.join(TABLES)}"
EXPECTED = f"expected a file in one of {KNOWN}, or a folder of such files"
BATCH = 256  # rows of a table that are held at once
SURPLUS = "\0"  # where csv.DictReader puts fields that no column has
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
Bytes = io.BufferedReader | gzip.GzipFile | zipfile.ZipExtFile  # each can peek and read in part
DELIMITERS = ",;\t|"
METADATA = ("dataset_info.json", "state.json", "dataset_dict.json")  # beside .arrow files


def read_rows(path: Path, delimiter: str | None = None, encoding: str | None = None) -> Iterator:
    """Each row of a file or a folder of files, every value as it is written there.

    Only some rows are held at once, but for .json, so that memory does not grow with the file.
    Bytes that are no text become lone surrogates, which are counted where rows are parsed.

    Args:
        path: a file, a folder of shards, or a folder as `datasets` saves it.
        delimiter: of .csv and .tsv; None finds it in the header.
        encoding: of texts; None finds UTF-16 and byte order marks, and else takes UTF-8.

    Yields:
        The row by column. A .csv row that has too few fields holds None for those it lacks; one
        that has too many, a list of them under SURPLUS.

    Raises:
        UserError: a file is missing, unreadable or cut short.
    """
    number = 0
    for file in files_of(path):
        try:
            for row in _rows(file, delimiter, encoding):
                number += 1
                yield row
        except (OSError, EOFError, ValueError, LookupError, zlib.error, csv.Error) as error:
            where = f" behind row {number}" if number else ""
            raise UserError(f"{file} cannot be read{where} ({error}): {EXPECTED}") from None
        except (RuntimeError, zipfile.BadZipFile) as error:
            raise UserError(f"{file} cannot be read ({error}): {EXPECTED}") from None


def files_of(path: Path) -> list[Path]:
    """The file itself, or those files of a folder that hold rows, in the order of their names.

    Raises:
        UserError: there is none, its ending is not known, or a folder mixes kinds or splits.
    """
    if not path.exists():
        raise UserError(f"{path} is no file: {EXPECTED}")
    if path.is_file():
        if kind(path) is None:
            raise UserError(f"{path} has an unknown ending: {EXPECTED}")
        return [path]
    splits = sorted(found.parent.name for found in path.glob("*/dataset_info.json"))
    if len(splits) > 1:
        raise UserError(
            f"{path} holds the splits {', '.join(splits)}: name the folder of one of them"
        )
    found = [file for file in sorted(path.rglob("*")) if file.is_file() and _holds_rows(path, file)]
    kinds = sorted({str(kind(file)) for file in found})
    if len(kinds) != 1:
        held = f"files of several kinds ({', '.join(kinds)})" if kinds else "no file of votes"
        raise UserError(f"{path} holds {held}: {EXPECTED} of one kind")
    return found


def _holds_rows(folder: Path, file: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    cached = file.name.startswith("cache-") and file.suffix == ".arrow"  # of `datasets`' map
    return kind(file) is not None and file.name not in METADATA and not hidden and not cached


def kind(path: Path) -> str | None:
    """The ending that says how a file is read, without that of its packing; None if unknown."""
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in PACKED:
        inner = endings[-2] if len(endings) > 1 else ""
        return inner if inner in TEXTS else ".zip" if endings[-1] == ".zip" else None
    return endings[-1] if endings and endings[-1] in TEXTS + TABLES else None


def _rows(path: Path, delimiter: str | None, encoding: str | None) -> Iterator[dict]:
    with ExitStack() as stack:
        if kind(path) == ".parquet":
            for batch in stack.enter_context(pq.ParquetFile(path)).iter_batches(BATCH):
                yield from batch.to_pylist()
            return
        if kind(path) == ".arrow":
            yield from _arrow_rows(stack.enter_context(pa.memory_map(str(path))))
            return
        ending, raw = _opened(path, stack)
        head = raw.peek(4)[:4]
        encoding = encoding or _encoding(head)
        text = io.TextIOWrapper(raw, encoding, errors="surrogateescape", newline="")
        if ending in (".csv", ".tsv"):
            yield from _csv_rows(text, delimiter)
        else:
            yield from _json_rows(text, lines=ending != ".json")


def _opened(path: Path, stack: ExitStack) -> tuple[str, Bytes]:
    """The ending and the bytes of a file of text, unpacked."""
    packing = path.suffix.lower()
    if packing == ".zip":
        archive = stack.enter_context(zipfile.ZipFile(path))
        names = [name for name in archive.namelist() if kind(Path(name)) in TEXTS]
        names = [name for name in names if not name.startswith("__MACOSX/")]
        if len(names) != 1:
            raise ValueError(f"it holds {names or 'no such file'} and not one file: unpack it")
        raw = stack.enter_context(archive.open(names[0]))
        return str(kind(Path(names[0]))), raw  # type: ignore[return-value]
    plain = stack.enter_context(path.open("rb"))
    if packing == ".gz":
        return str(kind(path)), stack.enter_context(gzip.GzipFile(fileobj=plain))
    return str(kind(path)), plain


def _encoding(head: bytes) -> str:
    """Of a file of text, by its first bytes: people's begin with an ASCII character."""
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    if head[1:2] == b"\0":
        return "utf-16-le"
    return "utf-16-be" if head[:1] == b"\0" else "utf-8"


def _csv_rows(text: io.TextIOWrapper, delimiter: str | None) -> Iterator[dict]:
    csv.field_size_limit(sys.maxsize)
    header = text.readline()
    names = {mark: next(csv.reader([header], delimiter=mark), []) for mark in DELIMITERS}
    delimiter = delimiter or max(DELIMITERS, key=lambda mark: len(names[mark]))
    fields = next(csv.reader([header], delimiter=delimiter), [])
    if twice := sorted({name for name in fields if name and fields.count(name) > 1}):
        raise ValueError(f"its header has more than one column {', '.join(twice)}")
    yield from csv.DictReader(text, fields, restkey=SURPLUS, delimiter=delimiter, strict=True)


def _json_rows(text: io.TextIOWrapper, lines: bool) -> Iterator[dict]:
    """Of a line each, or of one document: a list of rows, alone or under a name, or columns."""
    if not lines:
        content = text.read()
        try:
            yield from _document(json.loads(content, strict=False))
            return
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):
                raise
            text = io.StringIO(content)  # type: ignore[assignment]
    for line in text:
        if line.strip():
            yield _object(json.loads(line, strict=False))


def _document(content: object) -> Iterator[dict]:
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        if len(content) > 1 and len(lists) == len(content):  # columns
            names = list(content)
            yield from (
                dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)
            )
            return
        content = lists[0] if len(lists) == 1 else [content]
    if not isinstance(content, list):
        raise ValueError(f"it holds no list of rows, but {content!r:.40}")
    yield from map(_object, content)


def _object(value: object) -> dict:
    if not isinstance(value, dict):
        raise ValueError(f"a row is no object with columns, but {value!r:.40}")
    return value


def _arrow_rows(source: pa.NativeFile) -> Iterator[dict]:
    """Of a stream, as `datasets` saves it, or of a file."""
    try:
        for batch in pa.ipc.open_stream(source):
            yield from _slices(batch)
    except pa.ArrowInvalid:
        source.seek(0)
        reader = pa.ipc.open_file(source)
        for place in range(reader.num_record_batches):
            yield from _slices(reader.get_batch(place))


def _slices(batch: pa.RecordBatch) -> Iterator[dict]:
    for start in range(0, len(batch), BATCH):
        yield from batch.slice(start, BATCH).to_pylist()
