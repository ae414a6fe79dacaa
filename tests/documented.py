"""The rules for users that docs/operations.md gives, so that tests try what is written there."""

from __future__ import annotations

import re
from pathlib import Path

_PAGE = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
_RULE = _PAGE.split("ACL SETUSER")[1].split("```")[0]

COMMANDS = re.findall(r"(?<= \+)\w+", _RULE)
COMMANDS_OF_CLUSTERS = re.findall(r"\+[\w|]+", _PAGE.split("a cluster `")[1].split("`")[0])
WAIT, WAITAOF = re.findall(r"\+\w+", _PAGE.split("`confirm` needs")[1].split("\n")[0])
