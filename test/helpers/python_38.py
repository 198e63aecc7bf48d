"""Says what of Python files Python 3.8 would not run: its grammar, and the names and calls that came later.

    python3 python_38.py FILE…    one line a finding, "FILE:LINE: what"
"""

import ast
import sys

# module: names that came after 3.8; None: the module itself.
LATER = {
    "graphlib": None,
    "zoneinfo": None,
    "tomllib": None,
    "asyncio": {"to_thread", "TaskGroup", "timeout", "Runner", "Barrier"},
    "contextlib": {"aclosing", "chdir"},
    "datetime": {"UTC"},
    "enum": {"StrEnum", "verify", "member", "nonmember"},
    "functools": {"cache"},
    "hashlib": {"file_digest"},
    "inspect": {"get_annotations"},
    "itertools": {"pairwise", "batched"},
    "math": {"lcm", "nextafter", "ulp", "cbrt", "exp2"},
    "os": {"waitstatus_to_exitcode", "pidfd_open", "EFD_CLOEXEC"},
    "random": {"randbytes"},
    "signal": {"pidfd_send_signal"},
    "sys": {"orig_argv", "stdlib_module_names", "exception"},
    "threading": {"gettrace", "setprofile_all_threads"},
    "types": {"NoneType", "EllipsisType", "UnionType", "GenericAlias"},
    "typing": {"Annotated", "ParamSpec", "Concatenate", "TypeAlias", "TypeGuard", "Self", "Never", "override"},
}
METHODS = {"removeprefix", "removesuffix", "bit_count", "is_relative_to", "with_stem", "hardlink_to", "add_note"}
BUILTINS = {"aiter", "anext", "ExceptionGroup", "BaseExceptionGroup", "EncodingWarning"}
# Subscripted, as in list[int], since 3.9.
GENERIC = {"list", "dict", "tuple", "set", "frozenset", "type"}
# Keywords of a call that came later.
KEYWORDS = {"zip": {"strict"}, "dataclass": {"slots", "kw_only"}, "TemporaryDirectory": {"ignore_cleanup_errors"}}


def findings(text):
    try:
        tree = ast.parse(text, feature_version=(3, 8))
    except SyntaxError as error:
        yield error.lineno, error.msg
        return
    for node in ast.walk(tree):
        for what in _of(node):
            yield node.lineno, what


def _of(node):
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if _is_later(alias.name))
    elif isinstance(node, ast.ImportFrom) and not node.level:
        if _is_later(node.module):
            yield node.module
        yield from ("%s.%s" % (node.module, alias.name) for alias in node.names if _is_later(node.module, alias.name))
    elif isinstance(node, ast.Attribute):
        if node.attr in METHODS:
            yield ".%s()" % node.attr
        if isinstance(node.value, ast.Name) and _is_later(node.value.id.lstrip("_"), node.attr):
            yield "%s.%s" % (node.value.id, node.attr)
    elif isinstance(node, ast.Name) and node.id in BUILTINS:
        yield node.id
    elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in GENERIC:
        yield "%s[…]" % node.value.id
    elif isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", None))
        yield from ("%s(%s=…)" % (name, word.arg) for word in node.keywords if word.arg in KEYWORDS.get(name, ()))


def _is_later(module, name=None):
    later = LATER.get(module, ())
    return later is None or name in later


if __name__ == "__main__":
    found = [(path, *finding) for path in sys.argv[1:] for finding in findings(open(path, encoding="utf-8").read())]
    for finding in found:
        print("%s:%s: %s" % finding)
    sys.exit(1 if found else 0)
