"""Names and trades of the made-up people who speak in generated prompts."""

from __future__ import annotations

NAMES = (
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jan", "Kim", "Leo", "Maya", "Nils", "Olga",
    "Pia", "Rosa", "Sam", "Tara", "Uri", "Vera", "Will", "Yara", "Zoe",
)  # fmt: skip
JOBS = ("nurse", "baker", "driver", "teacher", "farmer", "singer", "student", "cook")
