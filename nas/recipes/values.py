"""Types of values that recipe keys take."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator, Field

LARGEST = 2**31 - 1
"""Upper bound of counts, which become array sizes and numbers of processes."""
PathText = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path; `~` at its beginning is the home folder, which a shell does not replace in `--set KEY=~/PATH`."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
CountOrZero = Annotated[int, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
