"""Reading of request parameters with Deribit's refusals.

Every reader names the parameter in its refusal (-32602 with data.param and data.reason).  Values
of a GET query string are text and are coerced here, in one place; values of a JSON body must have
their JSON type.  A null counts as absent.

This module never decides what a value means for the exchange.
"""

import math
from collections.abc import Sequence
from typing import Final

import orjson

from mm_daemon.sim.deribit_wire_rpc import Request, invalid_params

_MISSING: Final = "value required"
TEXT_CHARS_MAX: Final = 4_096
LIST_ITEMS_MAX: Final = 1_000


class Params:
    """The parameters of one request, read by name and type."""

    def __init__(self, request: Request) -> None:
        self._raw = request.params
        self._from_query = request.from_query

    def has(self, name: str) -> bool:
        """Whether a value other than null was sent."""
        return self._raw.get(name) is not None

    def is_list(self, name: str) -> bool:
        """Whether the value is a list, or the text of one in a query."""
        value = self._raw.get(name)
        as_text = self._from_query and isinstance(value, str) and value.startswith("[")
        return as_text or isinstance(value, list)

    def replaced(self, name: str, value: object) -> "Params":
        """The same parameters with one value in place of another."""
        raw = {**self._raw, name: value}
        return Params(Request(request_id=None, method="", params=raw, from_query=self._from_query))

    def text(self, name: str) -> str:
        """A required string."""
        value = self.text_or(name)
        if value is None:
            raise invalid_params(name, _MISSING)
        return value

    def text_or(self, name: str) -> str | None:
        """A string, or None when absent."""
        value = self._raw.get(name)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)  # ids are sent as numbers by several clients
        if not isinstance(value, str):
            raise invalid_params(name, "must be a string")
        if len(value) > TEXT_CHARS_MAX:
            raise invalid_params(name, "too long")
        return value

    def one_of(self, name: str, allowed: Sequence[str], default: str | None = None) -> str:
        """A string out of a closed list; the default stands in when absent."""
        value = self.text_or(name)
        if value is None:
            if default is None:
                raise invalid_params(name, _MISSING)
            return default
        if value not in allowed:
            raise invalid_params(name, f"must be one of: {', '.join(allowed)}")
        return value

    def number(self, name: str) -> float:
        """A required finite number."""
        value = self.number_or(name)
        if value is None:
            raise invalid_params(name, _MISSING)
        return value

    def number_or(self, name: str) -> float | None:
        """A finite number, or None when absent."""
        value = self._raw.get(name)
        if value is None:
            return None
        if isinstance(value, str) and self._from_query:
            try:
                value = float(value)
            except ValueError:
                raise invalid_params(name, "must be a number") from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid_params(name, "must be a number")
        if not math.isfinite(value):
            raise invalid_params(name, "must be a finite number")
        return float(value)

    def integer(self, name: str, *, low: int | None = None, high: int | None = None) -> int:
        """A required integer within bounds."""
        value = self.integer_or(name, low=low, high=high)
        if value is None:
            raise invalid_params(name, _MISSING)
        return value

    def integer_or(
        self, name: str, *, low: int | None = None, high: int | None = None
    ) -> int | None:
        """An integer within bounds, or None when absent."""
        number = self.number_or(name)
        if number is None:
            return None
        if not number.is_integer():
            raise invalid_params(name, "must be an integer")
        value = int(number)
        if low is not None and value < low:
            raise invalid_params(name, f"must be at least {low}")
        if high is not None and value > high:
            raise invalid_params(name, f"must be at most {high}")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean; the default stands in when absent."""
        value = self._raw.get(name)
        if value is None:
            return default
        if isinstance(value, str) and self._from_query and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise invalid_params(name, "must be a boolean")
        return value

    def items(self, name: str) -> list[object]:
        """A required list."""
        value = self._raw.get(name)
        if value is None:
            raise invalid_params(name, _MISSING)
        if isinstance(value, str) and self._from_query:
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError:
                value = [value]
        if not isinstance(value, list):
            raise invalid_params(name, "must be an array")
        if len(value) > LIST_ITEMS_MAX:
            raise invalid_params(name, f"at most {LIST_ITEMS_MAX} items")
        return value

    def texts(self, name: str) -> list[str]:
        """A required list of strings."""
        texts = []
        for item in self.items(name):
            if not isinstance(item, str):
                raise invalid_params(name, "must be an array of strings")
            texts.append(item)
        return texts

    def records(self, name: str) -> list["Params"]:
        """A required list of objects, each readable by name."""
        records = []
        for item in self.items(name):
            if not isinstance(item, dict):
                raise invalid_params(name, "must be an array of objects")
            records.append(Params(Request(request_id=None, method="", params=item)))
        return records

    def record_or(self, name: str) -> "Params | None":
        """An object readable by name, or None when absent."""
        value = self._raw.get(name)
        if value is None:
            return None
        if isinstance(value, str) and self._from_query:
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError:
                raise invalid_params(name, "must be an object") from None
        if not isinstance(value, dict):
            raise invalid_params(name, "must be an object")
        return Params(Request(request_id=None, method="", params=value))
