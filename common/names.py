"""Names of studies, arms and outcomes (`names.json`), for data whose numbers mean something to somebody.

SocSci210 has numbers only. A survey of one's own has names, which travel beside the data set: so a table can
say "loss frame" where its key is condition 3.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import Refusal
from common.files import write_json
from common.readers import read_json

FILE = "names.json"


class StudyNames(BaseModel):
    """title: of the study. conditions, tasks: the names of arms and outcomes by their numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    conditions: dict[int, str] = {}
    tasks: dict[int, str] = {}


class Names(BaseModel):
    """The names of a data set's studies; empty where nothing has a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    studies: dict[str, StudyNames] = {}

    def condition(self, study: str, number: int) -> str | None:
        """The arm's name, None when it has none."""
        return self.studies.get(study, StudyNames()).conditions.get(number)

    def task(self, study: str, number: int) -> str | None:
        """The outcome's name, None when it has none."""
        return self.studies.get(study, StudyNames()).tasks.get(number)

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, self.model_dump(mode="json"))


def read_names(folder: Path) -> Names:
    """The names in a folder, empty ones if it has none. Raises `Refusal` for a file that isn't such names."""
    path = folder / FILE
    if not path.exists():
        return Names()
    remedy = "fix it or delete it; names are optional"
    try:
        return Names.model_validate(read_json(path, remedy))
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Refusal(f"{path} doesn't hold names of studies (`{key}`); {remedy}") from None
