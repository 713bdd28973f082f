"""The syntax tree of a function, if what runs is surely what stands there."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache
from types import CodeType, FunctionType

from tacit.errors import NotReplayed

__all__ = ["Definition", "tree_of"]

Definition = ast.FunctionDef | ast.Lambda


def tree_of(function: FunctionType) -> Definition:
    """The definition of a function, whose code is that which its file makes today."""
    code = function.__code__
    name = f"{function.__name__} (line {code.co_firstlineno})"
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    if not text:
        raise NotReplayed(f"the source of {name} is not to be found: write the step in a file or a notebook")
    try:
        tree, codes = _compiled(text)
    except (SyntaxError, ValueError):
        raise NotReplayed(f"the source of {name} is not what runs") from None
    if code not in codes:
        raise NotReplayed(f"the source of {name} is not what runs: its file has changed, or its code has")
    kind = ast.Lambda if code.co_name == "<lambda>" else ast.FunctionDef
    found = [node for node in ast.walk(tree) if isinstance(node, kind) and _is_of(node, code)]
    if len(found) != 1:
        raise NotReplayed(f"the source of {name} is not to be told from that of another function")
    node = found[0]
    assert isinstance(node, Definition)
    return node


@lru_cache(maxsize=64)
def _compiled(text: str) -> tuple[ast.Module, frozenset[CodeType]]:
    tree = ast.parse(text)
    codes: set[CodeType] = set()
    waiting = [compile(text, "<source>", "exec", dont_inherit=True)]
    while waiting:
        code = waiting.pop()
        codes.add(code)
        waiting += [x for x in code.co_consts if isinstance(x, CodeType)]
    return tree, frozenset(codes)


def _is_of(node: ast.AST, code: CodeType) -> bool:
    """Whether a code is of this definition: where it begins, and where its instructions stand."""
    assert isinstance(node, Definition)
    if isinstance(node, ast.FunctionDef):
        lines = [node.lineno, *(d.lineno for d in node.decorator_list)]
        return node.name == code.co_name and min(lines) == code.co_firstlineno
    if node.lineno != code.co_firstlineno:
        return False
    body = node.body
    assert body.end_lineno is not None
    assert body.end_col_offset is not None
    begin, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    spans = [
        ((line, column), (last, end_column))
        for line, last, column, end_column in code.co_positions()
        if line is not None and last is not None and column is not None and end_column
    ]
    return bool(spans) and min(s[0] for s in spans) == begin and max(s[1] for s in spans) == end
