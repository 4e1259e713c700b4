"""Sections of a document that programs write: between two marks, which are comments."""

from .machine import Failure


def put(document, name, section):
    """The text of the document with the section between the marks of that name."""
    begin, end = f"<!-- {name}: begin; a program writes what stands here -->", f"<!-- {name}: end -->"
    before, found_begin, rest = document.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise Failure(f"the document lacks {begin} and {end}")
    return f"{before}{begin}\n{section}\n{end}{after}"
