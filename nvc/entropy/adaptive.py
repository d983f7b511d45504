"""An adaptive binary arithmetic coder for matrices of small integers, such as quantised weights.

Each value is coded under the magnitude expected from its row, its column and its neighbours, with
probabilities that start from a model and learn. Made for tensors of a hundred values upwards.
docs/entropy.md describes the format; adaptive_reference.py gives the same bytes in plain Python.
"""

import numpy as np

from nvc.entropy import adaptive_kernels
from nvc.entropy.adaptive_kernels import VALUE_LIMIT
from nvc.entropy.adaptive_model import (
    CHOICES,
    COUNT_LIMIT,
    MEANS,
    START_COUNT,
    first_probabilities,
)
from nvc.errors import StreamError

TRIAL_COUNT = 1 << 15  # values that the choice of options is tried on
_CHOICE_COUNTS = np.array([len(options) for options in CHOICES], dtype=np.int64)


def encode_matrix(values: np.ndarray) -> bytes:
    """Code a matrix of integers; int (rows, columns), magnitudes below 2**24, up to 2**26 values.

    Codes its first rows several times to choose how much rows, columns and neighbours count. The
    payload is empty when every value is 0. Raises ValueError on anything else.
    """
    matrix = check_matrix(values)
    if not matrix.any():
        return b""
    choice = [first_choice(matrix)] + [0] * (len(CHOICES) - 1)
    trial = matrix[: max(1, TRIAL_COUNT // matrix.shape[1])]
    best = len(_encode(trial, choice))
    for field in range(1, len(CHOICES)):
        for option in range(1, len(CHOICES[field])):
            other = [*choice[:field], option, *choice[field + 1 :]]
            size = len(_encode(trial, other))
            if size < best:
                choice, best = other, size
    return _encode(matrix, choice)


def decode_matrix(payload: bytes | memoryview, rows: int, cols: int) -> np.ndarray:
    """The int32 (rows, cols) matrix that encode_matrix() was given.

    Raises StreamError when no encoder writes such a payload; ValueError on an impossible size. Most
    damage is not noticed: the caller keeps a checksum.
    """
    check_size(rows, cols)
    values = np.zeros((rows, cols), dtype=np.int32)
    if len(payload) == 0:
        return values
    data = np.frombuffer(bytes(payload), dtype=np.uint8).copy()
    if data[-1] == 0:
        raise StreamError("matrix payload: it ends with a zero byte")
    coder = np.zeros(adaptive_kernels.CODER_SIZE, dtype=np.int64)
    choice = np.zeros(len(CHOICES), dtype=np.int64)
    if not adaptive_kernels.decode_choice(coder, data, _CHOICE_COUNTS, choice):
        raise StreamError("matrix payload: it starts as no payload does")
    used = adaptive_kernels.decode(coder, data, _options(choice.tolist()), _model(), values)
    if used == adaptive_kernels.BAD_VALUE:
        raise StreamError(f"matrix payload: a value is not below {VALUE_LIMIT}")
    if used < len(data):
        raise StreamError("matrix payload: bytes left over")
    return values


def check_matrix(values: np.ndarray) -> np.ndarray:
    """The matrix as contiguous int32; raises ValueError when it cannot be coded."""
    matrix = np.asarray(values)
    if matrix.ndim != 2 or matrix.dtype.kind not in "iu":
        raise ValueError(f"a matrix of integers is needed, not {matrix.dtype} {matrix.shape}")
    check_size(*matrix.shape)
    if matrix.size and max(int(matrix.max()), -int(matrix.min())) >= VALUE_LIMIT:
        raise ValueError(f"the magnitude of a value must be less than {VALUE_LIMIT}")
    matrix = np.ascontiguousarray(matrix, dtype=np.int32)
    return matrix if matrix.flags.writeable else matrix.copy()


def check_size(rows: int, cols: int) -> None:
    """Raise ValueError for a matrix larger than the coder's statistics allow."""
    if rows < 0 or cols < 0 or rows * cols > COUNT_LIMIT:
        raise ValueError(f"{rows} x {cols} values: at most {COUNT_LIMIT} are allowed")


def first_choice(matrix: np.ndarray) -> int:
    """The option of MEANS nearest in ratio to the mean magnitude, by integers."""
    total, count = 16 * int(np.abs(matrix.astype(np.int64)).sum()), matrix.size

    def ratio(option: int) -> tuple[int, int]:
        guess = MEANS[option] * count
        return (max(total, guess) << 16) // max(min(total, guess), 1), option

    return min(range(len(MEANS)), key=ratio)


def _encode(matrix: np.ndarray, choice: list[int]) -> bytes:
    size = 4 * matrix.size + 256
    while True:
        coded = adaptive_kernels.encode(
            matrix,
            np.array(choice, dtype=np.int64),
            _options(choice),
            _CHOICE_COUNTS,
            _model(),
            np.empty(size, dtype=np.uint16),
        )
        if len(coded):
            return coded.tobytes().rstrip(b"\0")
        size *= 2


def _options(choice: list[int]) -> np.ndarray:
    chosen = [options[i] for options, i in zip(CHOICES, choice, strict=True)]
    return np.array(chosen, dtype=np.int64)


def _model() -> np.ndarray:
    """Fast and slow probability times 2**24 and count of each context; int32 (CONTEXTS, 3)."""
    first = first_probabilities() << 8
    return np.stack([first, first, np.full_like(first, START_COUNT)], axis=1)
