"""The base class of all errors that a user can cause: what is wrong, and what to type next.

The library raises it, and the command line (`modelspace.cli`) turns it into two lines and an exit code, in one place.

Messages, hints and notes use Python names. What a caller can type is in backticks, in one of these forms, which the
command line translates to its own flags and commands (`modelspace.cli.spelling`):

| in a message | meaning | on the command line |
|---|---|---|
| `layer=` | a parameter of a verb, or a field of `modelspace.types.Preprocessing` | --layer |
| `layer='output'`, `k=5` | with a value | --layer output, -k 5 |
| `replace=True`, `store=False`, `weights=None` | a switch; no value | --replace, --no-store, no --weights |
| `methods=['dds', 'rsa']` | several values | --method dds --method rsa |
| `preprocessing={'input_size': 224}` | fields of the preprocessing | --input-size 224 |
| `weights=file` | a placeholder for a value | --weights FILE |
| `space.rebuild(coordinates=True)` | a method of a registry | 'modelspace rebuild --coordinates' |
| `ModelSpace.create()` | a class method | 'modelspace init' |
| `ModelSpace.open(folder).verify()` | a method of another registry | 'modelspace verify --home FOLDER' |

Backticks are used for nothing else in messages, and no message outside `modelspace.cli` names a flag or a command; a
test checks both.
"""

import errno


class ModelspaceError(Exception):
    """An error that the caller can fix.

    Args:
        message: what is wrong with what; one sentence without a final full stop.
        hint: what to do or type next; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(ModelspaceError):
    """An invalid call: a missing argument, a value out of range or of the wrong form."""

    exit_code = 2


class NotFoundError(ModelspaceError):
    """No model, space, probe set, layer or file has that name."""


class ConflictError(ModelspaceError):
    """The call would overwrite existing data or mix incompatible data."""


class BusyError(ModelspaceError):
    """Another process is writing to the registry."""


class StorageError(ModelspaceError):
    """The registry, or an output file, can't be written: the disk is full, a quota is used up, or the device fails."""


def unwritable(target: object, error: OSError) -> ModelspaceError:
    """The error for an output file that can't be written: of the disk if that is full or fails, else of the call."""
    message = f"{target} can't be written: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE):
        return StorageError(message, "free space on that disk, or name a file elsewhere")
    return UsageError(message)


class DamagedError(ModelspaceError):
    """A file of the registry is damaged."""


class EmbeddingError(ModelspaceError):
    """A model can't be embedded: no gradient, NaN, an unsupported graph."""


class NoGradientError(EmbeddingError):
    """A model has no attribution maps, since its gradient is zero. It can have kernels, which need no gradient."""


class NoisyTargetError(EmbeddingError):
    """Maps of a model would be rounding noise, since the explained sum is constant or saturated."""


class ProbeError(ModelspaceError):
    """A probe set can't be read, or differs from the one the space was created with."""


class ModelspaceWarning(UserWarning):
    """Something that the caller may not have meant. The command line prints it as a note.

    Its text is spelled like that of an error.
    """


class ConditionWarning(ModelspaceWarning):
    """A condition on the models is neither true nor false for some of them, since they have no value there."""


class OrderWarning(ModelspaceWarning):
    """The order of a result is not that of `nearest` in the same space."""
