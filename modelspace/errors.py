"""One error class for everything that a user can cause: what is wrong, and what to type next.

The library raises it, and the command line (`modelspace.cli`) turns it into two lines and an exit code, in one place.

Messages, hints and notes speak Python, for whoever called the library from Python. What a caller can type stands in
backticks, in one of these forms, which the command line puts into its own words (`modelspace.cli.spelling`):

| in a message | meaning | on the command line |
|---|---|---|
| `layer=` | a parameter of a verb, or a field of `modelspace.types.Preprocessing` | --layer |
| `layer='output'`, `k=5` | with a value | --layer output, -k 5 |
| `replace=True`, `store=False`, `weights=None` | a switch; nothing | --replace, --no-store, no --weights |
| `methods=['dds', 'rsa']` | several values | --method dds --method rsa |
| `preprocessing={'input_size': 224}` | fields of a preprocessing | --input-size 224 |
| `weights=file` | a name: what the caller puts in | --weights FILE |
| `space.rebuild(coordinates=True)` | a verb of a registry | 'modelspace rebuild --coordinates' |
| `ModelSpace.create()` | a verb of the class | 'modelspace init' |
| `ModelSpace.open(folder).verify()` | a verb of another registry | 'modelspace verify --home FOLDER' |

Backticks stand for nothing else in a message, and no message outside `modelspace.cli` names a flag or a command; a test
holds both.
"""


class ModelspaceError(Exception):
    """Something that the caller can put right.

    Args:
        message: what is wrong, naming the thing that is wrong; one sentence without a full stop at its end.
        hint: what to do or type next; empty where there is nothing to say.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(ModelspaceError):
    """The words of a call don't fit: a flag is missing, a value has the wrong form."""

    exit_code = 2


class NotFoundError(ModelspaceError):
    """A model, a space, a probe set, a layer or a file of that name is not there."""


class ConflictError(ModelspaceError):
    """The call would overwrite or mix what must stay apart."""


class BusyError(ModelspaceError):
    """Another process is writing to the registry."""


class DamagedError(ModelspaceError):
    """A file of the registry is not what was written."""


class EmbeddingError(ModelspaceError):
    """A model can't be embedded: no gradient, not a number, a graph that can't be followed."""


class ProbeError(ModelspaceError):
    """A probe set can't be read or is not the one that the space was made with."""
